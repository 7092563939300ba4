"""Tables of the tasks and suites that have a file, in Markdown: python -m aftershock.tasks.overview."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from aftershock.tasks.definition import FOLDER, Task, list_tasks, read_suites, read_task

SOURCES = {"edits": "the plan's edits", "world": "the generated world"}


def tasks_table(tasks: Iterable[Task]) -> list[str]:
    """Return the lines of a table: each task with its benchmark, protocol, examples, metrics and data."""
    head = ("task", "benchmark", "protocol", "kind", "shots", "metrics", "local file", "on the Hub")
    return _table(head, (_row(task) for task in tasks))


def differences(tasks: Iterable[Task]) -> list[str]:
    """Return the lines of a list: what is known to differ from published protocols, task by task."""
    return [
        line
        for task in tasks
        if task.differs
        for line in (f"* `{task.name}`", *(f"  * {difference}" for difference in task.differs))
    ]


def suites_table(folder: Path) -> list[str]:
    """Return the lines of a table: each suite with its tasks."""
    suites = read_suites(folder).values()
    rows = ((f"`{each.name}`", ", ".join(f"`{task}`" for task in each.tasks)) for each in suites)
    return _table(("suite", "tasks"), rows)


def _row(task: Task) -> tuple[str, ...]:
    items = task.data["items"]
    local = ", ".join(f"`{name}`" for name in items["local"]) or SOURCES.get(task.source, "")
    hub = items.get("hub") or task.data.get("hub")
    online = f"`{hub}`: `{', '.join(items['files'])}`" if items["files"] else ""
    metrics = ", ".join(f"`{name}`" for name in task.metrics)
    row = (
        f"`{task.name}`",
        task.benchmark,
        task.protocol,
        task.kind,
        str(task.shots),
        metrics,
        local,
        online,
    )
    return tuple(cell or "-" for cell in row)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    found = [read_task(name) for name in list_tasks()]
    print("\n".join([*tasks_table(found), "", *suites_table(FOLDER), "", *differences(found)]))
