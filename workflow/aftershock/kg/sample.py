"""The facts that rules are mined from: all of a graph's listed relations, or a sample by entity.

A sample by relation or by fact would break the joins that rules are made of. So subjects are picked by a
seeded hash, and all their listed facts and those of their objects are taken.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from aftershock.kg.sampling import hash_limit, iri_hash
from aftershock.kg.source import Source

log = logging.getLogger(__name__)

BATCH = 100  # subjects at first
Fact = tuple[str, str, str]


def sample_facts(
    source: Source, relation_ids: Sequence[str], max_facts: int, seed: int
) -> tuple[pd.DataFrame, Counter]:
    """SAMPLE rows of the listed relations, and how many statements were left out as they link no entities.

    Everything is taken when the graph has at most `max_facts` facts of these relations. ValueError when it
    has none at all; a single relation without facts is logged.
    """
    totals = {relation_id: source.count_facts(relation_id) for relation_id in relation_ids}
    for relation_id, number in totals.items():
        if not number:
            log.warning("relation %s of relations.tsv has no fact in this graph", relation_id)
    if not any(totals.values()):
        raise ValueError(
            f"the graph has no fact of any {source.graph.namespace} relation in relations.tsv (properties "
            f"{source.graph.properties}…): check that it is a graph of this namespace"
        )
    if sum(totals.values()) <= max_facts:
        found, odd = _all_facts(source, relation_ids)
    else:
        log.info("%d facts are more than max_facts = %d: sampling", sum(totals.values()), max_facts)
        found, odd = _facts_by_entity(source, totals, max_facts, seed)
        if not found:
            raise ValueError(f"max_facts = {max_facts} is less than the facts around one entity; raise it")
    log.info("%d facts; left out: %s", len(found), dict(odd) or "nothing")
    frame = pd.DataFrame(sorted(found), columns=["subject_id", "relation_id", "object_id"])
    return frame, odd


def _all_facts(source: Source, relation_ids: Iterable[str]) -> tuple[set[Fact], Counter]:
    rows: set[Fact] = set()
    odd: Counter = Counter()
    for relation_id in relation_ids:
        found = source.facts(relation_id)
        rows.update((s, relation_id, o) for s, o in found.ids)
        odd += found.odd
    return rows, odd


def _facts_by_entity(
    source: Source, totals: dict[str, int], max_facts: int, seed: int
) -> tuple[set[Fact], Counter]:
    """Facts of subjects, in the order of their hashes, and of their objects, up to `max_facts`.

    Asked for together are as many subjects as seem to be missing, by what those before have brought.
    """
    subjects = _subjects(source, totals, max_facts, seed)
    neighbours = Neighbourhoods(source, [r for r, number in totals.items() if number])
    taken: set[Fact] = set()
    start, size = 0, BATCH
    while start < len(subjects):
        batch = subjects[start : start + size]
        neighbours.load(batch)
        neighbours.load(o for subject in batch for _, _, o in neighbours.facts[subject])
        for subject in batch:
            own = neighbours.facts[subject]
            more = own.union(*(neighbours.facts[o] for _, _, o in own)) - taken
            if len(taken) + len(more) > max_facts:
                return taken, neighbours.odd
            taken |= more
        start += len(batch)
        size = max(BATCH, start * (max_facts - len(taken)) // max(len(taken), start))
    return taken, neighbours.odd


def _subjects(source: Source, totals: dict[str, int], max_facts: int, seed: int) -> list[str]:
    """Subjects with about `max_facts` facts of their own, ordered by their hashes."""
    limit = hash_limit(max_facts, sum(totals.values()))
    subjects = set().union(*(source.subjects(relation_id, seed, limit) for relation_id in totals))
    return sorted(subjects, key=lambda entity_id: iri_hash(seed, source.graph.iri(entity_id)))


class Neighbourhoods:
    """The listed facts of entities, each queried once."""

    def __init__(self, source: Source, relation_ids: Sequence[str]) -> None:
        self.source = source
        self.relation_ids = relation_ids
        self.facts: dict[str, set[Fact]] = defaultdict(set)
        self.loaded: set[str] = set()
        self.odd: Counter = Counter()

    def load(self, entity_ids: Iterable[str]) -> None:
        """Query the facts of those entities that were not queried before."""
        new = set(entity_ids) - self.loaded
        found = self.source.facts_about(new, self.relation_ids)
        for subject_id, relation_id, object_id in found.ids:
            self.facts[subject_id].add((subject_id, relation_id, object_id))
        self.odd += found.odd
        self.loaded |= new
