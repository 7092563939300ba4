"""A task and a suite as their files in resources/tasks/ have them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from aftershock.schema import faults, fill_defaults, read_schema, suggestion
from aftershock.tasks.metrics import METRICS
from aftershock.text_files import read_yaml

FOLDER = Path("resources") / "tasks"
PARTS = {
    "prepare": ("kind", "source", "shots", "data", "item", "examples", "prepare"),
    "run": ("kind", "engine", "stop", "max_tokens", "chat"),
    "score": ("kind", "metrics", "parse"),
}
"""The keys that each stage's result depends on; titles and notes are in none."""


@dataclass(frozen=True)
class Task:
    """A benchmark task; workflow/schemas/task.schema.yaml describes each field."""

    name: str
    kind: str = "generate"
    metrics: Sequence[str] = ()
    title: str = ""
    benchmark: str = ""
    protocol: str = "strict"
    source: str = "files"
    engine: str | None = None
    shots: int = 0
    stop: Sequence[str] = ()
    max_tokens: int = 32
    chance: float | None = None
    two_way: bool = False
    safety: bool = False
    chat: bool = False
    differs: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    item: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    parse: Mapping[str, Any] = field(default_factory=dict)
    prepare: str | None = None

    @property
    def headline(self) -> str:
        """The metric that stands for the task in overviews."""
        return self.metrics[0]

    def part(self, stage: str) -> dict[str, Any]:
        """Return the keys that a stage's result depends on, without those at their defaults.

        Jobs have it in their parameters, so that a new key of the schema re-runs nothing.
        """
        own = {key: getattr(self, key) for key in PARTS[stage]}
        default = make_task(self.name, {})
        return _beside(own, {key: getattr(default, key) for key in own})


def _beside(value: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs from a default, mappings key by key, without help for people."""
    found = {}
    for key, own in value.items():
        if isinstance(own, Mapping) and isinstance(default.get(key), Mapping):
            own = _beside(own, default[key])
            if not own:
                continue
        if key != "help" and (key not in default or own != default[key]):
            found[key] = own
    return found


def make_task(name: str, content: Mapping[str, Any]) -> Task:
    """Return a task from some of its file's keys; the others are at their defaults."""
    content = dict(content)
    fill_defaults(content, read_schema("task"))
    known = {each.name for each in fields(Task)}
    return Task(name, **{key: value for key, value in content.items() if key in known})


def list_tasks(folder: Path = FOLDER) -> list[str]:
    """Return the names of the tasks that have a file."""
    return sorted(file.stem for file in folder.glob("*.yaml"))


def read_task(name: str, folder: Path = FOLDER) -> Task:
    """Return a task from its file; ValueError lists everything that is wrong with it."""
    content, errors = _content(name, folder, ())
    where = f"resources/tasks/{name}.yaml"
    if not errors:
        errors = [str(fault) for fault in faults(content, read_schema("task"))]
    if not errors:
        task = make_task(name, {"benchmark": content["title"], **content})
        errors = list(_beyond_schema(task))
        if not errors:
            return task
    raise ValueError("\n".join(f"{where}: {line}" for line in errors))


def _content(name: str, folder: Path, below: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """Return the keys of a task's file and of those that it extends, and what hinders reading them."""
    file = folder / f"{name}.yaml"
    if name in below:
        return {}, [f"extends: {' extends '.join((*below, name))}"]
    if not file.is_file():
        known = suggestion(name, list_tasks(folder))
        return {}, [f"extends: unknown task {name!r}; {known}" if below else f"no such file; {known}"]
    own = read_yaml(file)
    if not isinstance(own, dict):
        return {}, [f"expected keys and values, found {own!r}"]
    base = own.pop("extends", None)
    if base is None:
        return own, []
    inherited, errors = _content(base, folder, (*below, name))
    return _joined(inherited, own), errors


def _joined(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the entries of `own` put over it, mappings key by key."""
    both = {
        key: _joined(base[key], value) if isinstance(value, dict) and isinstance(base[key], dict) else value
        for key, value in own.items()
        if key in base
    }
    return {**base, **own, **both}


def _beyond_schema(task: Task) -> Iterable[str]:
    """Yield what contradicts itself in a task whose keys and types are right."""
    item, data = task.item, task.data
    fitting = {name for name, metric in METRICS.items() if metric.kind == task.kind}
    for metric in (name for name in task.metrics if name not in fitting):
        yield f"metrics: {metric!r} is none of kind {task.kind}; {suggestion(metric, fitting)}"
    if task.source == "files" and not (data["items"]["local"] or data["items"]["files"]):
        yield "data.items: missing; name local files, or files of a data set on the Hub"
    if task.source == "files" and not task.prepare:
        if task.kind == "choice" and not (item["choices"] and item["gold"]):
            yield "item: a task of kind choice needs choices and gold"
        if task.kind != "choice" and not item["answers"]:
            yield f"item.answers: missing; a task of kind {task.kind} needs them"
    if task.source in ("world", "edits") and not task.prepare:
        yield f"prepare: missing; the source {task.source} has no rows for templates, name a function"
    examples = data["examples"]
    needed = task.shots and task.source == "files" and task.examples["part"] == "examples"
    if needed and not (examples["local"] or examples["files"]):
        yield f"data.examples: missing for {task.shots} shots; or set examples.part: items"
    for part in ("items", "examples"):
        if data[part]["files"] and not (data[part].get("hub") or data.get("hub")):
            yield f"data.{part}.files: no data set is named; give data.hub"


# --- suites -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Suite:
    """A named list of tasks."""

    name: str
    title: str
    tasks: Sequence[str]
    about: str = ""


def read_suites(folder: Path = FOLDER) -> dict[str, Suite]:
    """Return the suites by name; ValueError lists everything that is wrong with their files."""
    suites, errors, tasks = {}, [], list_tasks(folder)
    for file in sorted((folder / "suites").glob("*.yaml")):
        content, where = read_yaml(file), f"resources/tasks/suites/{file.name}"
        if found := faults(content, read_schema("suite")):
            errors += [f"{where}: {fault}" for fault in found]
            continue
        unknown = [task for task in content["tasks"] if task not in tasks]
        errors += [f"{where}: unknown task {task!r}; {suggestion(task, tasks)}" for task in unknown]
        if file.stem in tasks:
            errors.append(f"{where}: a task has this name too; rename one of them")
        suites[file.stem] = Suite(file.stem, **content)
    if errors:
        raise ValueError("\n".join(errors))
    return suites


def chosen_tasks(names: Iterable[str], folder: Path = FOLDER) -> list[str]:
    """Return the tasks that names of tasks and suites stand for, each once; ValueError for an unknown one."""
    suites, tasks = read_suites(folder), list_tasks(folder)
    chosen: dict[str, None] = {}
    for name in names:
        if name not in suites and name not in tasks:
            raise ValueError(f"unknown task or suite {name!r}; {suggestion(name, [*tasks, *suites])}")
        chosen |= dict.fromkeys(suites[name].tasks if name in suites else [name])
    return list(chosen)
