"""ConflictEdit: two edits of which the second contradicts what follows from the first."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aftershock.cases.graph_facts import Context, Fact
from aftershock.cases.split import split_of
from aftershock.cases.targets import Targets
from aftershock.seeds import generator


@dataclass(frozen=True)
class Edit:
    """(subject, relation: old object -> new object), by id."""

    subject_id: str
    relation_id: str
    old_id: str
    new_id: str

    @property
    def old(self) -> Fact:
        """The fact before the edit."""
        return Fact(self.subject_id, self.relation_id, self.old_id)

    @property
    def new(self) -> Fact:
        """The fact that the edit writes."""
        return Fact(self.subject_id, self.relation_id, self.new_id)


@dataclass(frozen=True)
class ConflictCase:
    """Two edits and what ties them; `clash` is the relation that must be functional for a contradiction."""

    rule: str
    first: Edit
    second: Edit
    clash: str
    implicit: Fact  # k_n implicit: what the second edit entails about the first one's relation
    tied: Fact | None = None

    @property
    def entities(self) -> tuple[str, ...]:
        """The entities that the true facts tie together: they decide the cluster."""
        if self.tied:
            return self.tied.subject_id, self.tied.object_id
        return self.first.subject_id, self.first.old_id


@dataclass(frozen=True)
class Selection:
    """Which candidates may become cases."""

    context: Context
    strict_only: bool
    max_per_first_edit: int


def parse_rule(rule: str) -> tuple[tuple[str, ...], str]:
    """(body relations, head relation) of a rule written r1>r2 or r&r1>r2."""
    body, _, head = rule.partition(">")
    if not head or body.count("&") > 1:
        raise ValueError(f"rule {rule!r} is neither R1>R2 nor R1&R2>R3")
    return tuple(body.split("&")), head


def propose(
    dataset: str, instances: pd.DataFrame, targets: Targets, rng: np.random.Generator
) -> Iterator[ConflictCase]:
    """Cases of `dataset` from `instances` (COMBINATIONS columns), in the given order, with random targets."""
    for row in instances.itertuples(index=False):
        body, head = parse_rule(row.rule)
        if dataset == "composite" and len(body) == 2:
            yield from _composite(row, body, head, targets, rng)
        elif dataset == "reverse" and len(body) == 1:
            yield from _reverse(row, body[0], head, targets, rng)
        elif dataset == "coverage" and len(body) == 1:
            for fact in (Fact(row.x_id, body[0], row.y_id), Fact(row.y_id, head, row.x_id)):
                yield from _coverage(row.rule, fact, targets, rng)


def _coverage(rule: str, fact: Fact, targets: Targets, rng: np.random.Generator) -> Iterator[ConflictCase]:
    o2 = targets.draw(*fact.key, (), rng)
    o3 = o2 and targets.draw(*fact.key, (o2,), rng)
    if o3:
        first = Edit(*fact.key, fact.object_id, o2)
        second = Edit(*fact.key, o2, o3)
        yield ConflictCase(rule, first, second, fact.relation_id, second.new)


def _reverse(row, r1: str, r2: str, targets: Targets, rng: np.random.Generator) -> Iterator[ConflictCase]:
    o2 = targets.draw(row.x_id, r1, (row.y_id,), rng)
    o3 = o2 and targets.draw(o2, r2, (row.x_id, row.y_id), rng)
    if o3:
        first = Edit(row.x_id, r1, row.y_id, o2)
        yield ConflictCase(row.rule, first, Edit(o2, r2, row.x_id, o3), r2, Fact(o3, r1, o2))


def _composite(
    row, body: tuple[str, ...], r2: str, targets: Targets, rng: np.random.Generator
) -> Iterator[ConflictCase]:
    r, r1 = body
    z2 = targets.draw(row.y_id, r1, (row.x_id, row.z_id), rng)
    z3 = z2 and targets.draw(row.x_id, r2, (row.y_id, row.z_id, z2), rng)
    if z3:
        first = Edit(row.y_id, r1, row.z_id, z2)
        second = Edit(row.x_id, r2, row.z_id, z3)
        yield ConflictCase(row.rule, first, second, r2, Fact(row.y_id, r1, z3), Fact(row.x_id, r, row.y_id))


def select(
    dataset: str,
    split: str,
    quota: int,
    instances: pd.DataFrame,
    splits: Mapping[str, str],
    selection: Selection,
) -> tuple[list[ConflictCase], Counter]:
    """Up to `quota` cases of one split, and how many candidates were dropped for which reason.

    Rules take turns, so that none dominates. The model must know the fact that the first edit changes and the
    tied fact: without them nothing could come into conflict.
    """
    index = selection.context.index
    rng = generator(selection.context.seed, "conflict", dataset, split)
    inside = [
        split_of((x, y), splits) == split for x, y in zip(instances["x_id"], instances["y_id"], strict=True)
    ]
    ordered = instances[inside].sort_values(["rule", "x_id", "y_id", "z_id"]).sample(frac=1, random_state=rng)
    turn = ordered.groupby("rule").cumcount()
    ordered = ordered.assign(turn=turn).sort_values(["turn", "rule"], kind="stable")
    cases: list[ConflictCase] = []
    dropped: Counter = Counter()
    firsts: Counter = Counter()
    pairs = set()
    for case in propose(dataset, ordered, Targets(index, splits, split), rng):
        reason = _objection(case, selection, firsts, pairs)
        if not reason and len(cases) >= quota:
            reason = "beyond the quota"
        if reason:
            dropped[reason] += 1
            continue
        firsts[case.first.old.key] += 1
        pairs.add((case.first.old.key, case.second.old.key))
        cases.append(case)
    return cases, dropped


def _objection(case: ConflictCase, selection: Selection, firsts: Counter, pairs: set) -> str | None:
    index = selection.context.index
    if selection.strict_only and not selection.context.strict(case.clash):
        return "old and new fact can both hold (relation is not functional)"
    if not index.knows(case.first.old):
        return "the model does not know the fact that the first edit changes"
    if case.tied and not index.knows(case.tied):
        return "the model does not know the tied fact"
    if firsts[case.first.old.key] >= selection.max_per_first_edit:
        return "the first edit's subject and relation are used often enough"
    if (case.first.old.key, case.second.old.key) in pairs:
        return "both edits' subjects and relations are used already"
    return None
