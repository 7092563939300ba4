"""Lists of known names with a line about each, for `aftershock list`."""

from collections.abc import Mapping
from importlib import import_module

from aftershock.project import PROJECT


def lines_of(what: str) -> list[str]:
    """Return a line for each known name, with what it is, in the order of their names or of the pipeline."""
    named = _known(what)
    width = max(map(len, named))
    return [f"{name:<{width}}  {about}".rstrip() for name, about in named.items()]


def _known(what: str) -> Mapping[str, str]:
    if what == "methods":
        from aftershock.editors.methods import find_methods

        found = sorted(find_methods().items())
        return {name: f"{each.method.title}: changes {each.method.changes}" for name, each in found}
    if what == "families":
        from aftershock.lm.families import list_families

        texts = {name: import_module(f"aftershock.lm.families.{name}").__doc__ for name in list_families()}
        return {name: (text or "").strip().partition("\n")[0] for name, text in texts.items()}
    if what == "datasets":
        from aftershock.datasets.table import DATASETS

        return {name: each.description for name, each in DATASETS.items()}
    if what == "tasks":
        from aftershock.tasks.definition import list_tasks, read_task

        folder = PROJECT / "resources" / "tasks"
        tasks = [read_task(name, folder) for name in list_tasks(folder)]
        return {task.name: f"{task.benchmark} ({', '.join(task.metrics)})" for task in tasks}
    from aftershock.metrics.definitions import BASE

    return {each.name: each.about.partition("\n")[0] for each in BASE}
