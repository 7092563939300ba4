"""The datasets and the states that their cases go through, as data. Nothing here loads pandas or torch.

A new dataset is an entry of DATASETS. Stages are given the entry that they work on, never the table, so that
an entry changes nothing that is made of the others.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SPLITS = ("test", "dev", "train")

UNEDITED, FIRST, SECOND, ALONE, CONTROL, RANDOM = "0", "1", "2", "e2_only", "control", "random"
"""Names of states."""

BEFORE, BETWEEN, AFTER = PLACES = ("before", "between", "after")
"""Places of unrelated edits among those of a case."""


@dataclass(frozen=True)
class State:
    """A state of the model in which a case's probes are scored: the change that was made, and from where.

    start: the state that it starts from; None for the unedited model.
    edit: the case's requests that are written: e1, e2, control, or `second`, which is e2 or with multi-label
        editing several true objects. None for a random change.
    size_of: for a random change, the state whose change it equals in size.
    """

    name: str
    start: str | None = None
    edit: str | None = None
    size_of: str | None = None


CONFLICT_STATES = (
    State(FIRST, edit="e1"),
    State(SECOND, FIRST, "second"),
    State(ALONE, edit="e2"),
    State(CONTROL, FIRST, "control"),
)
ROUND_STATES = (State(FIRST, edit="e1"), State(SECOND, FIRST, "second"), State(RANDOM, size_of=SECOND))


@dataclass(frozen=True)
class Dataset:
    """A benchmark dataset.

    kind: conflict (two edits of one-to-one facts that cannot both hold) or round (an edit of one of several
        true objects that is taken back).
    title: the name in a sentence. description: one sentence on its edits.
    states: all but the unedited one, each after those that it builds on.
    file: its name among the published files. triples: facts of a row there.
    """

    name: str
    kind: str
    title: str
    description: str
    states: tuple[State, ...]
    file: str
    triples: int = 1

    @property
    def edits(self) -> int:
        """The number of edits of a case, over all states."""
        return sum(state.edit is not None for state in self.states)


_ALL = (
    Dataset(
        "coverage",
        "conflict",
        "coverage",
        "Two edits of one fact, (s, r: o1 -> o2) and (s, r: o2 -> o3): the second covers the first.",
        CONFLICT_STATES,
        "coverage_edit.json",
    ),
    Dataset(
        "reverse",
        "conflict",
        "reverse",
        "An edit (x, r1: y -> o2), and one of the inverse, (o2, r2: x -> o3), that contradicts it.",
        CONFLICT_STATES,
        "reverse_edit.json",
        triples=2,
    ),
    Dataset(
        "composite",
        "conflict",
        "composite",
        "Edits (y, r1: z -> z2) and (x, r2: z -> z3), which contradict each other given the tied fact "
        "(x, r, y).",
        CONFLICT_STATES,
        "composite_edit.json",
        triples=3,
    ),
    Dataset(
        "round_easy",
        "round",
        "round, easy",
        "An edit away from a true object that resembles the other true objects, and back.",
        ROUND_STATES,
        "easy.json",
    ),
    Dataset(
        "round_hard",
        "round",
        "round, hard",
        "An edit away from a true object that does not resemble the other true objects, and back.",
        ROUND_STATES,
        "hard.json",
    ),
)
DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _ALL}


def find_dataset(name: str) -> Dataset:
    """Return the dataset of a name; ValueError naming the known ones."""
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; known datasets: {', '.join(DATASETS)}")
    return DATASETS[name]


def title_of(name: str) -> str:
    """Return a dataset's name in a sentence; a word that is no dataset's name is returned as it is."""
    return DATASETS[name].title if name in DATASETS else name


def names_of_kind(kind: str) -> tuple[str, ...]:
    """Return the datasets that are of kind conflict or round."""
    return tuple(name for name, dataset in DATASETS.items() if dataset.kind == kind)


CONFLICT, ROUND = names_of_kind("conflict"), names_of_kind("round")


def states_as_values(dataset: str) -> list[dict[str, Any]]:
    """Return the states of a dataset as plain values for a job's parameters; `State(**values)` reads them."""
    return [asdict(state) for state in find_dataset(dataset).states]
