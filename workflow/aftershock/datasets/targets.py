"""False target objects: of the right kind, in the right split, and never true.

Of the right kind means: an object that the graph gives to some subject of the same relation. No class of an
entity is asked for, so a relation with mixed objects (a notable work: books, films, songs) has a mixed pool.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np

from aftershock.datasets.graph_facts import FactIndex
from aftershock.matching import normal


class Targets:
    """Draws objects that occur with a relation and belong to one split.

    An object that is in no split (a language, an award) belongs to each. Every object is as likely as any
    other, however often it is true. With `balance`, labels take turns as well: one is drawn again only when
    every other that could be had was used; `use` says what was.
    """

    def __init__(
        self, index: FactIndex, splits: Mapping[str, str], split: str, balance: bool = False
    ) -> None:
        self.index, self.splits, self.split, self.balance = index, splits, split, balance
        self._pools: dict[str, _Pool] = {}
        self._decks: dict[str, dict[str, None]] = {}

    def draw(
        self, subject_id: str, relation_id: str, avoid: Collection[str], rng: np.random.Generator
    ) -> str | None:
        """A random object of `relation_id` that is false for `subject_id`; None when there is none.

        Neither `subject_id`, nor a true object (stated or concluded by a rule), nor an entity of `avoid` is
        returned, nor any entity with the label of one of these: the model could not tell them apart.
        """
        true = self.index.true_of(subject_id, relation_id)
        labels = self.index.labels
        excluded = {normal(labels[entity]) for entity in (subject_id, *true, *avoid) if entity in labels}
        pool = self._pool(relation_id)
        if self.balance:
            return self._deal(relation_id, pool, excluded, rng)
        taken = sorted(place for label in excluded for place in pool.places.get(label, ()))
        left = len(pool.entities) - len(taken)
        return pool.entities[nth_left(int(rng.integers(left)), taken)] if left else None

    def use(self, relation_id: str, entity_id: str) -> None:
        """Record that a case writes a drawn object."""
        self._decks.get(relation_id, {}).pop(entity_id, None)

    def _pool(self, relation_id: str) -> "_Pool":
        if relation_id not in self._pools:
            mine = [
                entity
                for entity in self.index.pools.get(relation_id, ())
                if self.splits.get(entity, self.split) == self.split
            ]
            self._pools[relation_id] = _Pool(mine, self.index.labels)
        return self._pools[relation_id]

    def _deal(
        self, relation_id: str, pool: "_Pool", excluded: Collection[str], rng: np.random.Generator
    ) -> str | None:
        """The next entity of a shuffled list with one entity per label; a used-up list is shuffled anew."""
        deck = self._decks.setdefault(relation_id, {})
        for _ in range(2):
            for entity in deck:
                if normal(self.index.labels[entity]) not in excluded:
                    return entity
            distinct = [pool.entities[places[0]] for places in pool.places.values()]
            deck |= dict.fromkeys(distinct[i] for i in rng.permutation(len(distinct)))
        return None


class _Pool:
    """Entities, and the places at which each label stands among them."""

    def __init__(self, entities: list[str], labels: Mapping[str, str]) -> None:
        self.entities = entities
        self.places: dict[str, list[int]] = defaultdict(list)
        for place, entity in enumerate(entities):
            self.places[normal(labels[entity])].append(place)


def nth_left(place: int, taken: list[int]) -> int:
    """The number of the `place`-th number from 0 that is not in `taken`, which is sorted."""
    for number in taken:
        place += number <= place
    return place
