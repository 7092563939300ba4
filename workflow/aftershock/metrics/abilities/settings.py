"""Facts about tasks for analyses along a sequence of edits, and thresholds of a loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

PERPLEXITY = "perplexity"
ALL = "all"
"""In place of an order: the mean over all of them; in place of an age: edits of every age."""

NOISE = 1e-9
"""Differences at or below this are rounding: a value this near to a threshold lies on it."""


@dataclass(frozen=True)
class TaskInfo:
    """A task as far as its results ask; the fields are those of its file."""

    name: str
    kind: str = "choice"
    metrics: Sequence[str] = ("acc",)
    title: str = ""
    benchmark: str = ""
    protocol: str = "strict"
    shots: int = 0
    chance: float | None = None
    two_way: bool = False
    safety: bool = False
    chat: bool = False

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> "TaskInfo":
        """Return the task described by a mapping that may hold more."""
        known = {each.name for each in fields(cls)}
        return cls(**{key: value for key, value in task.items() if key in known})

    @property
    def headline(self) -> str:
        """The metric that stands for the task."""
        return self.metrics[0]

    @property
    def words(self) -> str:
        """The task's name for a reader."""
        return self.title or self.name


def asked_twice(tasks: Sequence[TaskInfo]) -> set[str]:
    """Return the names of tasks in a released protocol whose benchmark is there in a strict one as well.

    Means over tasks leave them out.
    """
    strict = {task.benchmark for task in tasks if task.protocol == "strict" and task.benchmark}
    return {task.name for task in tasks if task.protocol != "strict" and task.benchmark in strict}


@dataclass(frozen=True)
class Collapse:
    """From where on a task counts as lost, and its loss as abrupt."""

    below: float = 0.5
    """Of what the unedited model has above the floor, the share that is kept."""
    intact: float = 0.9
    """The least share one checkpoint earlier of a loss that is abrupt."""
    perplexity: float = 10.0
    """Growth of the perplexity of a fixed text, from one measurement to the next, of an abrupt loss."""
