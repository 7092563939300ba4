"""Tasks that a graph makes by itself: known facts, copying, two hops, and sentences held out of training.

Each function returns rows for a task's templates: id, group, question, and choices with the place of the
right one (`gold`) or a whole `text`. `about` has the subject whose facts an item asks for, so that items
about edited facts can be left out. Draws depend on the seed and the item alone: another item shifts none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from aftershock.datasets.graph_facts import FactIndex
from aftershock.prompts import bare, fill, following, join, split
from aftershock.seeds import generator
from aftershock.tables.models import VERIFIED

Row = dict[str, Any]
CHOICES = 4
HELD_OUT = 3  # paraphrases of a relation, the last ones, that models trained here have never read with it
SENTENCES = 3  # of one held-out text


class Fact(NamedTuple):
    """A fact with its labels."""

    subject_id: str
    relation_id: str
    object_id: str
    subject: str
    object: str

    @property
    def name(self) -> str:
        """An id of subject and relation."""
        return f"{self.subject_id}-{self.relation_id}"


@dataclass(frozen=True)
class World:
    """Material of tasks: FACTS, PROMPTS and RULES of a graph, and the noun of each relation."""

    table: pd.DataFrame
    prompts: pd.DataFrame
    nouns: dict[str, str]
    seed: int
    rules: pd.DataFrame | None = None

    @cached_property
    def facts(self) -> list[Fact]:
        """The facts that a filter kept and that can be asked for, in the order of their ids."""
        asked = self.table[self.table["kept"] & self.table["relation_id"].isin(set(self.templates))]
        columns = asked[list(Fact._fields)].sort_values(list(Fact._fields[:3]))
        return [Fact(*row) for row in columns.itertuples(index=False)]

    @cached_property
    def templates(self) -> dict[str, list[str]]:
        """The prompts of each relation, in the order of their ids."""
        rows = self.prompts.sort_values("prompt_id").groupby("relation_id")["template"]
        return {str(relation): list(texts) for relation, texts in rows}

    @cached_property
    def objects(self) -> dict[tuple[str, str], list[str]]:
        """The labels of all objects of a subject's relation, also those that a filter dropped."""
        labelled = self.table.dropna(subset=["object"])
        return labelled.groupby(["subject_id", "relation_id"])["object"].apply(list).to_dict()

    @cached_property
    def single(self) -> dict[tuple[str, str], Fact]:
        """The facts whose subject has no other object of the relation, stated or concluded by a rule."""
        index = FactIndex.from_frames(self.table, VERIFIED.empty(), self.rules)
        return {fact[:2]: fact for fact in self.facts if len(index.true_of(*fact[:2])) == 1}

    @cached_property
    def by_subject(self) -> dict[str, list[Fact]]:
        """The facts of `single` by their subjects."""
        found: dict[str, list[Fact]] = {}
        for fact in self.single.values():
            found.setdefault(fact.subject_id, []).append(fact)
        return found

    @cached_property
    def names(self) -> set[str]:
        """All labels of the graph."""
        return {*self.table["subject"].dropna(), *self.table["object"].dropna()}

    @cached_property
    def pools(self) -> dict[str, list[str]]:
        """The objects of each relation, each label once."""
        pools: dict[str, set[str]] = {}
        for fact in self.facts:
            pools.setdefault(fact.relation_id, set()).add(fact.object)
        return {relation: sorted(pool) for relation, pool in pools.items()}

    def draw(self, *names: str) -> Any:
        """A random generator for one item."""
        return generator(self.seed, "world tasks", *names)


def fact_choice(world: World) -> list[Row]:
    """Return items that ask for a fact's object among objects of the same relation.

    Only of facts whose subject has one object; the prompt is one of the relation's, drawn.
    """
    rows = []
    for fact in world.single.values():
        draw = world.draw("fact_choice", fact.name)
        template = world.templates[fact.relation_id][draw.integers(len(world.templates[fact.relation_id]))]
        choices = _choices(draw, fact.object, world.pools[fact.relation_id])
        if choices:
            rows.append(
                _asking(fact.name, fact.relation_id, fill(template, fact.subject), choices, [fact.subject])
            )
    return _found(rows, "a relation with four different objects")


def copying(world: World) -> list[Row]:
    """Return items whose text comes to its subject's name again, which the model has never read.

    The name is made of two of the graph's, so that it can only be copied from the sentence before; names of
    the same kind are the other choices. About no fact: edits should leave it alone.
    """
    opened = {
        relation: [template for template in templates if split(template)[0].strip()]
        for relation, templates in world.templates.items()
    }
    by_relation: dict[str, list[Fact]] = {}
    for fact in world.facts:
        by_relation.setdefault(fact.relation_id, []).append(fact)
    rows = []
    for relation, facts in by_relation.items():
        for fact in facts:
            draw = world.draw("copying", *fact[:3])
            names = _invented(draw, [each.subject for each in facts], world)
            second = [t for other in opened if other != relation for t in opened[other]]
            if not names or not second:
                continue
            first = world.templates[relation][draw.integers(len(world.templates[relation]))]
            sentence = f"{join(fill(first, names[0]), fact.object)}."
            question = f"{sentence} {split(second[draw.integers(len(second))])[0].rstrip()}"
            choices = _shuffled(draw, names[0], names[1:])
            rows.append(_asking(f"{fact.name}-{fact.object_id}", relation, question, choices, []))
    return _found(rows, "subjects whose names have two words")


def two_hops(world: World) -> list[Row]:
    """Return items that ask for a fact about an entity which is named by another fact alone.

    The subject's own object of the relation asked for is among the wrong choices, where there is one: a model
    that skips the first hop says that.
    """
    rows = []
    for first in world.single.values():
        for second in world.by_subject.get(first.object_id, ()):
            if second.object_id == first.subject_id:
                continue
            draw = world.draw("two_hops", first.name, second.name)
            described = f"the {world.nouns[first.relation_id]} of {first.subject}"
            question = _capital(fill(world.templates[second.relation_id][0], described))
            own = world.objects.get((first.subject_id, second.relation_id), [])
            skipped = [name for name in own if name != second.object][:1]
            choices = _choices(draw, second.object, world.pools[second.relation_id], skipped)
            if choices:
                group = f"{first.relation_id}>{second.relation_id}"
                about = [first.subject, second.subject]
                rows.append(_asking(f"{first.name}>{second.relation_id}", group, question, choices, about))
    return _found(rows, "facts whose objects have facts of their own")


def held_out_perplexity(world: World) -> list[Row]:
    """Return texts of a few sentences about one subject, in words that training withholds."""
    own: dict[str, list[Fact]] = {}
    for fact in world.facts:
        own.setdefault(fact.subject_id, []).append(fact)
    rows = []
    for subject, facts in own.items():
        draw = world.draw("held_out_perplexity", subject)
        chosen = [facts[i] for i in draw.permutation(len(facts))[:SENTENCES]]
        prompts = [world.templates[fact.relation_id][-HELD_OUT:] for fact in chosen]
        said = [some[draw.integers(len(some))] for some in prompts]
        sentences = [
            f"{join(fill(t, fact.subject), fact.object)}." for t, fact in zip(said, chosen, strict=True)
        ]
        rows.append({"id": subject, "group": "", "text": " ".join(sentences), "about": [facts[0].subject]})
    return _found(rows, "facts")


# --- parts ------------------------------------------------------------------------------------------------


def _asking(name: str, group: str, question: str, choices: Sequence[str], about: Sequence[str]) -> Row:
    """Return the row of an item whose right choice comes first, with the choices in a drawn order."""
    right, order = choices[0], choices[1:]
    return {
        "id": name,
        "group": group,
        "question": bare(question),
        "choices": [following(question, choice) for choice in order],
        "gold": list(order).index(right),
        "about": list(about),
    }


def _choices(draw: Any, right: str, pool: Sequence[str], wanted: Sequence[str] = ()) -> list[str]:
    """Return the right choice, then it and wrong ones in a drawn order; nothing where `pool` has too few.

    The `wanted` ones are among the wrong ones.
    """
    others = [name for name in pool if name != right and name not in wanted]
    drawn = [others[i] for i in draw.permutation(len(others))]
    wrong = [*wanted, *drawn][: CHOICES - 1]
    return _shuffled(draw, right, wrong) if len(wrong) == CHOICES - 1 else []


def _shuffled(draw: Any, right: str, wrong: Sequence[str]) -> list[str]:
    order = [right, *wrong]
    return [right, *(order[i] for i in draw.permutation(len(order)))]


def _invented(draw: Any, subjects: Sequence[str], world: World) -> list[str]:
    """Return new names for all choices, made of the first word of one subject and the rest of another."""
    parts = [name.split(" ", 1) for name in dict.fromkeys(subjects) if " " in name]
    firsts, lasts = (list(dict.fromkeys(part[i] for part in parts)) for i in (0, 1))
    if min(len(firsts), len(lasts)) < CHOICES:
        return []
    pairs = zip(draw.permutation(len(firsts)), draw.permutation(len(lasts)), strict=False)
    names = [f"{firsts[i]} {lasts[j]}" for i, j in pairs]
    unknown = [name for name in names if name not in world.names][:CHOICES]
    return unknown if len(unknown) == CHOICES else []


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _found(rows: list[Row], needed: str) -> list[Row]:
    if not rows:
        raise ValueError(f"the graph makes no item of this task: it would need {needed}; leave the task out")
    return rows
