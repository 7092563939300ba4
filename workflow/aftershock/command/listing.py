"""Lists of known names with a line about each, for `aftershock list`."""

from collections.abc import Callable, Mapping

from aftershock.project import PROJECT


def lines_of(what: str) -> list[str]:
    """Return a line for each known name, with what it is, in the order of their names or of the pipeline."""
    named = KNOWN[what]()
    width = max(map(len, named))
    return [f"{name:<{width}}  {about}".rstrip() for name, about in named.items()]


def page_of(what: str) -> str:
    """Return a page about all of `what`; ValueError where there is none."""
    if what != "methods":
        raise ValueError(f"there is a page about methods alone, not about {what}; leave out --page")
    from aftershock.command.method_page import method_page

    return method_page()


def _methods() -> Mapping[str, str]:
    from aftershock.editors.methods import find_methods

    found = sorted(find_methods().items())
    return {name: f"{each.method.title}: changes {each.method.changes}" for name, each in found}


def _families() -> Mapping[str, str]:
    from importlib import import_module

    from aftershock.lm.families import list_families

    texts = {name: import_module(f"aftershock.lm.families.{name}").__doc__ for name in list_families()}
    return {name: (text or "").strip().partition("\n")[0] for name, text in texts.items()}


def _datasets() -> Mapping[str, str]:
    from aftershock.datasets.table import DATASETS

    return {name: each.description for name, each in DATASETS.items()}


def _tasks() -> Mapping[str, str]:
    from aftershock.tasks.definition import list_tasks, read_task

    folder = PROJECT / "resources" / "tasks"
    tasks = [read_task(name, folder) for name in list_tasks(folder)]
    return {task.name: f"{task.benchmark} ({', '.join(task.metrics)})" for task in tasks}


def _metrics() -> Mapping[str, str]:
    from aftershock.metrics.definitions import BASE

    return {each.name: each.about.partition("\n")[0] for each in BASE}


KNOWN: dict[str, Callable[[], Mapping[str, str]]] = {
    "methods": _methods,
    "families": _families,
    "datasets": _datasets,
    "tasks": _tasks,
    "metrics": _metrics,
}
