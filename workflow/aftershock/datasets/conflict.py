"""ConflictEdit: two edits of which the second contradicts what follows from the first."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from aftershock.datasets import reasons
from aftershock.datasets.graph_facts import Context, Fact, FactIndex, parse_rule, rows_of
from aftershock.datasets.targets import Targets
from aftershock.seeds import generator

COLUMNS = ["rule", "x_id", "y_id", "z_id"]
UNDRAWN = "?"
Draw = Callable[[str, str, Sequence[str]], str | None]


class Edit(NamedTuple):
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
    """Two edits and the fact that ties them; `clash` is the relation that must be functional."""

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
    """Limits on candidates that may become cases, and the draw of their targets."""

    context: Context
    strict_only: bool
    max_per_first_edit: int
    max_per_tied_fact: int | None = None
    max_per_object: int | None = None  # of the first edit's old object, such as a country
    balance: bool = False


def propose(
    dataset: str, instances: pd.DataFrame, index: FactIndex, draw: Draw
) -> Iterator[tuple[str, ConflictCase | None]]:
    """Rule and case of every candidate that `instances` (COMBINATIONS columns) give, in their order.

    `draw` gives a false object for a subject and a relation, none of those to avoid; the case is None where
    it gives None. What the second edit entails for the first one's relation is false as well.
    """
    for rule, x, y, z in rows_of(instances, COLUMNS):
        body, head = parse_rule(rule)
        if dataset == "composite" and len(body) == 2:
            yield rule, _composite(rule, (x, y, z), body, head, index.true_of(y, body[1]), draw)
        elif dataset == "reverse" and len(body) == 1:
            yield rule, _reverse(rule, (x, y), body[0], head, index, draw)
        elif dataset == "coverage" and len(body) == 1:
            for fact in (Fact(x, body[0], y), Fact(y, head, x)):
                yield rule, _coverage(rule, fact, draw)


def _coverage(rule: str, fact: Fact, draw: Draw) -> ConflictCase | None:
    subject_id, relation_id = fact.key
    o2 = draw(subject_id, relation_id, ())
    o3 = o2 and draw(subject_id, relation_id, (o2,))
    if not (o2 and o3):
        return None
    first = Edit(subject_id, relation_id, fact.object_id, o2)
    second = Edit(subject_id, relation_id, o2, o3)
    return ConflictCase(rule, first, second, fact.relation_id, second.new)


def _reverse(
    rule: str, pair: tuple[str, str], r1: str, r2: str, index: FactIndex, draw: Draw
) -> ConflictCase | None:
    x, y = pair
    o2 = draw(x, r1, (y,))
    avoided = [x, y]
    while (o3 := o2 and draw(o2, r2, avoided)) and o2 in index.true_of(o3, r1):
        avoided.append(o3)
    if not (o2 and o3):
        return None
    return ConflictCase(rule, Edit(x, r1, y, o2), Edit(o2, r2, x, o3), r2, Fact(o3, r1, o2))


def _composite(
    rule: str, chain: tuple[str, str, str], body: tuple[str, ...], r2: str, true: Collection[str], draw: Draw
) -> ConflictCase | None:
    (x, y, z), (r, r1) = chain, body
    z2 = draw(y, r1, (x, z))
    z3 = z2 and draw(x, r2, (y, z, z2, *true))
    if not (z2 and z3):
        return None
    return ConflictCase(rule, Edit(y, r1, z, z2), Edit(x, r2, z, z3), r2, Fact(y, r1, z3), Fact(x, r, y))


def select(
    dataset: str,
    split: str,
    quota: int,
    instances: pd.DataFrame,
    splits: Mapping[str, str],
    selection: Selection,
) -> tuple[list[ConflictCase], Counter]:
    """Up to `quota` cases of one split, and how many candidates were dropped, by (rule, reason).

    `instances` are those of the split, sorted. Rules take turns, so that none dominates. The model must know
    the fact that the first edit changes and the tied fact: without them nothing could come into conflict.
    """
    rng = generator(selection.context.seed, "conflict", dataset, split)
    ordered = instances.sample(frac=1, random_state=rng)
    turn = ordered.groupby("rule").cumcount()
    ordered = ordered.assign(turn=turn).sort_values(["turn", "rule"], kind="stable")
    targets = Targets(selection.context.index, splits, split, selection.balance)
    cases: list[ConflictCase] = []
    dropped: Counter = Counter()
    used: Counter = Counter()

    def draw(subject_id: str, relation_id: str, avoid: Sequence[str]) -> str | None:
        if len(cases) >= quota:  # further candidates are only counted, so any target will do
            return UNDRAWN
        return targets.draw(subject_id, relation_id, avoid, rng)

    for rule, case in propose(dataset, ordered, selection.context.index, draw):
        reason = _objection(case, selection, used) if case else reasons.NO_TARGET
        if not reason and len(cases) >= quota:
            reason = reasons.QUOTA
        if reason or case is None:
            dropped[rule, reason] += 1
            continue
        used.update(_uses(case))
        for edit in (case.first, case.second):
            targets.use(edit.relation_id, edit.new_id)
        cases.append(case)
    return cases, dropped


def _uses(case: ConflictCase) -> Iterator[tuple]:
    """Yield the facts and objects that a case uses, each subject to a limit of its own."""
    first = case.first.old
    yield "first edit", first.key
    yield "pair", first.key, case.second.old.key
    yield "object", first.relation_id, first.object_id
    if case.tied:
        yield "tied fact", case.tied


def _objection(case: ConflictCase, selection: Selection, used: Counter) -> str | None:
    index, first = selection.context.index, case.first.old
    limits = {
        "first edit": (selection.max_per_first_edit, reasons.FIRST_OFTEN),
        "tied fact": (selection.max_per_tied_fact, reasons.TIED_OFTEN),
        "object": (selection.max_per_object, reasons.OBJECT_OFTEN),
        "pair": (1, reasons.PAIR_USED),
    }
    if selection.strict_only and not selection.context.strict(case.clash):
        return reasons.NOT_STRICT
    if not index.knows(first):
        return reasons.UNKNOWN_FACT
    if case.tied and not index.knows(case.tied):
        return reasons.UNKNOWN_TIED
    for use in _uses(case):
        limit, reason = limits[use[0]]
        if limit is not None and used[use] >= limit:
            return reason
    return None
