"""False objects to write: of the right kind, in the right split, and never true."""

from collections.abc import Collection, Mapping

import numpy as np

from aftershock.cases.graph_facts import FactIndex


class Targets:
    """Draws objects that occur with a relation and belong to one split.

    An object that is nobody's subject (a country, an award) belongs to every split.
    """

    def __init__(self, index: FactIndex, splits: Mapping[str, str], split: str) -> None:
        self.index = index
        self.pools = {
            relation_id: [entity for entity in pool if splits.get(entity, split) == split]
            for relation_id, pool in index.pools.items()
        }

    def draw(
        self, subject_id: str, relation_id: str, avoid: Collection[str], rng: np.random.Generator
    ) -> str | None:
        """A random object of `relation_id` that is false for `subject_id`; None when there is none.

        Neither `subject_id`, nor a true object, nor an entity of `avoid` is returned, nor any entity with the
        label of one of these: the model could not tell them apart.
        """
        true = self.index.objects.get((subject_id, relation_id), ())
        labels = self.index.labels
        excluded = {labels[entity].casefold() for entity in (subject_id, *true, *avoid) if entity in labels}
        pool = [
            entity for entity in self.pools.get(relation_id, ()) if labels[entity].casefold() not in excluded
        ]
        return str(rng.choice(pool)) if pool else None
