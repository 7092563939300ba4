"""Probes of each case, and the controls that tell effects of the conflict from those of any edit.

Roles of a conflict case:

    old             k_o, the fact that the first edit writes
    new_exp         k_n, explicit: the fact that the second edit writes
    new_imp         k_n, implicit: what follows from the second edit for the first one's relation
    tied            k_f, the tied fact (composite)
    e1_true         the true fact that the first edit replaces
    e2_true         the second edit's old object at its own prompt
    in_context      e2_true again, asked after the facts that it is deduced from: tied and e1_true (composite)
    control_same    another fact of the tied fact's subject
    control_unrelated   a tied fact of an unrelated case
    neighbour       the same relation of other subjects (coverage)
    neighbour_new   the second edit's new object for the neighbour's subject, in the neighbours' order
    same_subject    other facts of the same subject (coverage)
    locality_text   texts of a file that have nothing to do with the edits (coverage, where a file is given)

Roles of a round case: `original` (o1), `target` (o*), `object` (the other true objects) and
`control_object` (all true objects of another key).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import pandas as pd

from aftershock.datasets.conflict import ConflictCase
from aftershock.datasets.graph_facts import Fact, FactIndex
from aftershock.datasets.round_edit import RoundCase
from aftershock.matching import normal
from aftershock.prompts import TEXT

ALL_PROMPTS, EDIT_PROMPT, IN_CONTEXT = "all", "edit", "context"
Probe = tuple[str, Fact, str]  # role, fact, which prompts are scored
NEIGHBOURS = 5
SAME_SUBJECT = 4
TEXTS = 5


def conflict_probes(
    dataset: str,
    case: ConflictCase,
    others: Sequence[ConflictCase],
    near: "Neighbours",
    rng: np.random.Generator,
) -> Iterator[Probe]:
    """The probes of `case`; `others` are unrelated cases, which lend tied facts; `near` has neighbours."""
    index = near.index
    yield "old", case.first.new, ALL_PROMPTS
    yield "new_exp", case.second.new, ALL_PROMPTS
    yield "new_imp", case.implicit, ALL_PROMPTS
    yield "e1_true", case.first.old, ALL_PROMPTS
    if case.second.old != case.first.new:
        yield "e2_true", case.second.old, ALL_PROMPTS
    if case.tied:
        yield "tied", case.tied, ALL_PROMPTS
        yield "in_context", case.second.old, IN_CONTEXT
        touched = {case.tied.relation_id, case.second.relation_id}
        same = [f for f in index.by_subject[case.tied.subject_id] if f.relation_id not in touched]
        yield from _some("control_same", same, 1, ALL_PROMPTS, index, rng)
        tied = sorted({other.tied for other in others if other.tied} - {case.tied})
        yield from _some("control_unrelated", tied, 1, ALL_PROMPTS, index, rng)
    if dataset == "coverage":
        key = case.first.old.key
        chosen = near.draw(*key, NEIGHBOURS, rng, case.second.new_id)
        for fact in chosen:
            yield "neighbour", fact, EDIT_PROMPT
        for fact in chosen:
            new = Fact(fact.subject_id, fact.relation_id, case.second.new_id)
            yield "neighbour_new", new, EDIT_PROMPT
        same = [f for f in index.by_subject[key[0]] if f.relation_id != key[1]]
        yield from _some("same_subject", same, SAME_SUBJECT, EDIT_PROMPT, index, rng)


def round_probes(case: RoundCase, control: RoundCase | None) -> Iterator[Probe]:
    """The probes of `case`; `control` is another key whose objects should not change."""
    yield "original", Fact(*case.key, case.original_id), ALL_PROMPTS
    yield "target", Fact(*case.key, case.target_id), ALL_PROMPTS
    for object_id in case.object_ids:
        if object_id != case.original_id:
            yield "object", Fact(*case.key, object_id), ALL_PROMPTS
    if control:
        for object_id in control.object_ids:
            yield "control_object", Fact(*control.key, object_id), ALL_PROMPTS


class Texts:
    """Texts of a file, LOCAL_COLUMNS, as facts: their prompts are asked as they stand."""

    def __init__(self, texts: pd.DataFrame) -> None:
        pairs = list(zip(texts["prompt"], texts["target"], strict=True))
        self.facts = [Fact(f"text {i}", TEXT, f"answer {i}") for i in range(len(pairs))]
        self.labels = {
            name: label
            for fact, pair in zip(self.facts, pairs, strict=True)
            for name, label in zip((fact.subject_id, fact.object_id), pair, strict=True)
        }
        self._normal = [normal(prompt) for prompt, _ in pairs]

    def draw(self, subjects: Collection[str], n: int, rng: np.random.Generator) -> Iterator[Probe]:
        """Up to `n` random texts that contain none of the labels `subjects`."""
        names = [normal(subject) for subject in subjects]
        order = rng.permutation(len(self.facts))
        apart = (self.facts[i] for i in order if not any(name in self._normal[i] for name in names))
        return (("locality_text", fact, EDIT_PROMPT) for fact in islice(apart, n))


class Neighbours:
    """Facts of a relation about subjects of one split: those of others serve tuning or MEND's training.

    Without splits every subject will do.
    """

    def __init__(self, index: FactIndex, splits: Mapping[str, str], split: str | None = None) -> None:
        self.index, self.splits, self.split = index, splits, split
        self._by_relation: dict[str, tuple[list[Fact], list[Fact]]] = {}

    def of(self, split: str) -> "Neighbours":
        """The neighbours of `split`."""
        return self if split == self.split else Neighbours(self.index, self.splits, split)

    def draw(
        self, subject_id: str, relation_id: str, n: int, rng: np.random.Generator, new_id: str
    ) -> list[Fact]:
        """Up to `n` random facts of other subjects, known ones first.

        None is about a subject of the same name, nor about one of which `new_id`, the object that an edit
        writes, is true: their facts could not be lost.
        """
        labels = self.index.labels
        own, new = normal(labels[subject_id]), normal(labels[new_id])

        def apart(fact: Fact) -> bool:
            named = (normal(labels[found]) for found in self.index.true_of(*fact.key) if found in labels)
            return normal(labels[fact.subject_id]) != own and new not in named

        found: list[Fact] = []
        for facts in self._facts(relation_id):
            order = rng.permutation(len(facts))
            found += islice((facts[i] for i in order if apart(facts[i])), n - len(found))
        return found

    def _facts(self, relation_id: str) -> tuple[list[Fact], list[Fact]]:
        """The known and the other facts of a relation, each sorted."""
        if relation_id not in self._by_relation:
            known: list[Fact] = []
            unknown: list[Fact] = []
            for fact in self.index.by_relation.get(relation_id, ()):
                if not self.splits or self.splits.get(fact.subject_id) == self.split:
                    (known if self.index.knows(fact) else unknown).append(fact)
            self._by_relation[relation_id] = known, unknown
        return self._by_relation[relation_id]


def _some(
    role: str, facts: Sequence[Fact], n: int, prompts: str, index: FactIndex, rng: np.random.Generator
) -> Iterator[Probe]:
    """Up to `n` of `facts`, known ones first: an unknown fact cannot be lost."""
    order = rng.permutation(len(facts))
    shuffled = sorted((facts[i] for i in order), key=lambda fact: not index.knows(fact))
    for fact in shuffled[:n]:
        yield role, fact, prompts
