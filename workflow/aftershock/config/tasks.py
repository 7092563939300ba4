"""The tasks of a run, from their files, and what hinders preparing their items."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aftershock.config.sequences import plans_of, tasks_of_plan
from aftershock.schema import suggestion
from aftershock.tasks.definition import Task, chosen_tasks, read_suites, read_task
from aftershock.tasks.sources import source_errors


def tasks_of_run(config: Mapping[str, Any], folder: Path) -> dict[str, Task]:
    """Return the tasks that the plans of a run measure, by name; ValueError when a file is wrong."""
    named = [name for plan in plans_of(config).values() for name in tasks_of_plan(config, plan)]
    below = folder / "resources" / "tasks"
    return {name: read_task(name, below) for name in chosen_tasks(named, below)}


def task_errors(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield what is wrong with the files of a run's tasks, and the files of their data that are missing."""
    below = folder / "resources" / "tasks"
    try:
        suites = read_suites(below)
    except ValueError as error:
        yield from str(error).splitlines()
        return
    tasks = []
    named = [name for plan in plans_of(config).values() for name in tasks_of_plan(config, plan)]
    names = dict.fromkeys(task for each in named for task in getattr(suites.get(each), "tasks", [each]))
    for name in names:
        if not (below / f"{name}.yaml").is_file():
            continue  # said elsewhere
        try:
            tasks.append(read_task(name, below))
        except ValueError as error:
            yield from str(error).splitlines()
    yield from _switch_errors(config, list(names))
    for name in (config.get("abilities", {}).get("judge") or {}).get("tasks", ()):
        if names and name not in names:
            yield f"abilities.judge.tasks: {name!r} is none of this run's tasks; {suggestion(name, names)}"
    yield from source_errors(tasks, data_folder(config, folder))


def _switch_errors(config: Mapping[str, Any], tasks: Sequence[str]) -> Iterator[str]:
    """Yield switches between editors, plans and tasks that the run has not."""
    editors = [label for label, editor in config["editors"].items() if editor]
    known = {"editors": editors, "plans": list(plans_of(config)), "tasks": tasks}
    for switch, choice in config.get("abilities", {}).get("switches", {}).items():
        for kind, names in choice.items():
            for name in names:
                if name not in known[kind]:
                    instead = suggestion(name, known[kind])
                    where = f"abilities.switches.{switch}.{kind}"
                    yield f"{where}: {name!r} is none of this run's {kind}; {instead}"


def data_folder(config: Mapping[str, Any], folder: Path) -> str | None:
    """Return the folder with the files of tasks, relative to the working folder, else to the project."""
    data = config.get("abilities", {}).get("data")
    if data is None or Path(data).is_dir():
        return data
    return str(folder / data)
