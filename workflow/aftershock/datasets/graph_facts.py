"""An index over the facts that cases are made of."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import chain
from typing import NamedTuple

import pandas as pd


class Fact(NamedTuple):
    """(subject, relation, object), by id. A tuple, because a graph has millions of them."""

    subject_id: str
    relation_id: str
    object_id: str

    @property
    def key(self) -> tuple[str, str]:
        """(subject, relation)."""
        return self.subject_id, self.relation_id


@cache
def parse_rule(rule: str) -> tuple[tuple[str, ...], str]:
    """(body relations, head relation) of a rule written r1>r2 or r&r1>r2."""
    body, _, head = rule.partition(">")
    if not head or body.count("&") > 1:
        raise ValueError(f"rule {rule!r} is neither R1>R2 nor R1&R2>R3")
    return tuple(body.split("&")), head


@dataclass(frozen=True)
class FactIndex:
    """The true facts of a graph with their labels, and the part of them that the unedited model knows.

    `unusable` facts are true as well, but a filter dropped them: nothing is made of them, and no target may
    happen to be one. So is what the logic `rules` conclude.
    """

    facts: frozenset[Fact]
    labels: dict[str, str]
    known: frozenset[Fact] = field(default_factory=frozenset)
    unusable: frozenset[Fact] = field(default_factory=frozenset)
    rules: frozenset[str] = frozenset()  # that the graph's facts follow

    @classmethod
    def from_frames(
        cls, facts: pd.DataFrame, verified: pd.DataFrame, rules: pd.DataFrame | None = None
    ) -> "FactIndex":
        """Index the rows of `facts` (FACTS) and the known ones of `verified` (VERIFIED).

        What a rule of RULES concludes is true where it was judged so, whether or not the run takes it.
        """
        kept, dropped = facts[facts["kept"]], facts[~facts["kept"]]
        labels = {}
        for rows in (dropped, kept):  # a dropped object's name is true as well
            named = rows_of(rows, ["subject_id", "subject", "object_id", "object"])
            for subject_id, subject, object_id, found in named:
                labels[subject_id], labels[object_id] = subject, found
        labels = {entity: label for entity, label in labels.items() if isinstance(label, str)}
        known = verified[verified["known"]]
        true, said, unusable = (frozenset(as_facts(rows)) for rows in (kept, known, dropped))
        followed = () if rules is None else rules.loc[rules["judged"] == "keep", "rule"]
        return cls(true, labels, said, unusable, frozenset(followed))

    def with_rules(self, rules: Iterable[str]) -> "FactIndex":
        """The same facts, which follow further rules."""
        return replace(self, rules=self.rules | frozenset(rules))

    @cached_property
    def objects(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Sorted true objects of each (subject, relation)."""
        true = chain(self.facts, self.unusable)
        return _group(((subject_id, relation_id), found) for subject_id, relation_id, found in true)

    @cached_property
    def subjects(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Sorted subjects of each (relation, object)."""
        true = chain(self.facts, self.unusable)
        return _group(((relation_id, found), subject_id) for subject_id, relation_id, found in true)

    @cached_property
    def pools(self) -> dict[str, tuple[str, ...]]:
        """Sorted objects of each relation."""
        return _group((fact.relation_id, fact.object_id) for fact in self.facts)

    @cached_property
    def by_relation(self) -> dict[str, tuple[Fact, ...]]:
        """Sorted facts of each relation."""
        return _group((fact.relation_id, fact) for fact in self.facts)

    @cached_property
    def by_subject(self) -> dict[str, tuple[Fact, ...]]:
        """Sorted facts of each subject."""
        return _group((fact.subject_id, fact) for fact in self.facts)

    @cached_property
    def _inverses(self) -> dict[str, tuple[str, ...]]:
        """Sorted body relations of the binary rules of each head."""
        return _group((head, body[0]) for body, head in map(parse_rule, self.rules) if len(body) == 1)

    @cached_property
    def _chains(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Sorted pairs of body relations of the chain rules of each head."""
        return _group((head, body) for body, head in map(parse_rule, self.rules) if len(body) == 2)

    def true_of(self, subject_id: str, relation_id: str) -> set[str]:
        """All objects that the graph states, or that a rule concludes whether or not the graph states it.

        The facts that a chain joins may be concluded by binary rules themselves.
        """
        found = {*self._linked(subject_id, relation_id)}
        for first, second in self._chains.get(relation_id, ()):
            for between in self._linked(subject_id, first):
                found.update(self._linked(between, second))
        return found

    def _linked(self, subject_id: str, relation_id: str) -> Iterator[str]:
        """Yield the objects that are stated or concluded by binary rules; one may come twice."""
        yield from self.objects.get((subject_id, relation_id), ())
        for body in self._inverses.get(relation_id, ()):
            yield from self.subjects.get((body, subject_id), ())

    def knows(self, fact: Fact) -> bool:
        """True if the unedited model was found to know `fact`."""
        return fact in self.known


@dataclass(frozen=True)
class Context:
    """Facts with their rules, prompts and functionality, which cases are made of."""

    index: FactIndex
    prompts: Mapping[str, str]  # edit prompt of each relation
    functionality: Mapping[str, float] = field(default_factory=dict)  # measured, of each relation
    functional: frozenset[str] = frozenset()  # relations that the sheet calls functional
    threshold: float = 1.0  # functionality that such a relation must also reach
    seed: int = 0

    @classmethod
    def from_frames(
        cls,
        index: FactIndex,
        prompts: pd.DataFrame,
        measured: pd.DataFrame,
        sheet: pd.DataFrame,
        threshold: float,
        seed: int,
    ) -> "Context":
        """Read PROMPTS (edit prompts), RELATIONS (functionality) and the sheet (functional relations)."""
        first = prompts[prompts["prompt_id"] == 0]
        return cls(
            index,
            dict(zip(first["relation_id"], first["template"], strict=True)),
            dict(zip(measured["relation_id"], measured["functionality"], strict=True)),
            frozenset(sheet.loc[sheet["functional"] == "yes", "relation_id"]),
            threshold,
            seed,
        )

    def strict(self, relation_id: str) -> bool:
        """True if two different objects of `relation_id` contradict each other."""
        return relation_id in self.functional and self.functionality.get(relation_id, 0.0) >= self.threshold

    def inference(self, rule: str) -> str:
        """Inference from the second edit to k_n in terms of the first one: `deduced` or `abduced`.

        A rule r1>r2 leads from the first edit's relation to the second's; back leads its converse r2>r1, if
        that is a rule as well. A chain r&r1>r2 has no converse of its form: that the second edit's object
        explains itself by the first edit's relation is a guess, if a good one.
        """
        body, _, head = rule.partition(">")
        return "deduced" if f"{head}>{body}" in self.index.rules else "abduced"

    def neighbour(
        self, entity_id: str, splits: Mapping[str, str] | None = None, split: str | None = None
    ) -> str | None:
        """The entity that another belongs to, such as a city's country; None without such a fact.

        Of the entity's facts whose relation allows one object, the one whose relation has fewest objects in
        all: many entities share each of these. With `splits`, the split of each entity, objects of another
        split than `split` are passed over; those of none are shared by all.
        """
        facts = [
            fact
            for fact in self.index.by_subject.get(entity_id, ())
            if self.strict(fact.relation_id) and (splits or {}).get(fact.object_id, split) == split
        ]
        general = min(
            facts, key=lambda f: (len(self.index.pools[f.relation_id]), f.relation_id), default=None
        )
        return general.object_id if general else None


def as_facts(frame: pd.DataFrame) -> list[Fact]:
    """The fact of each row."""
    return list(map(Fact._make, rows_of(frame, Fact._fields)))


def rows_of(frame: pd.DataFrame, columns: Iterable[str]) -> Iterator[tuple]:
    """The rows of some columns as tuples; iterating over Arrow text cell by cell is ten times slower."""
    return zip(*(frame[name].to_numpy(dtype=object) for name in columns), strict=True)


def _group(pairs: Iterable[tuple]) -> dict:
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {
        key: tuple(sorted(set(values))) if len(values) > 1 else (values[0],) for key, values in groups.items()
    }
