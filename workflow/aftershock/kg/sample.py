"""The facts that rules are mined from: all of a graph's listed relations, or a sample by entity.

A sample by relation or by fact would break the joins that rules are made of. So subjects are picked by a
seeded hash, and all their listed facts and those of their objects are taken.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from aftershock.kg.client import Client
from aftershock.kg.pages import count, fetch, list_values
from aftershock.kg.queries import facts, neighbourhood
from aftershock.kg.sampling import hash_limit, iri_hash

log = logging.getLogger(__name__)

BATCH = 100  # subjects; with their objects a few pages
Fact = tuple[str, str, str]


def sample_facts(
    client: Client, relation_ids: Sequence[str], max_facts: int, seed: int
) -> tuple[pd.DataFrame, Counter]:
    """SAMPLE rows of the listed relations, and how many statements were left out as they link no entities.

    Everything is taken when the graph has at most `max_facts` facts of these relations. ValueError when it
    has none at all; a single relation without facts is logged.
    """
    totals = {relation_id: count(client, facts(relation_id)) for relation_id in relation_ids}
    for relation_id, number in totals.items():
        if not number:
            log.warning("relation %s of relations.tsv has no fact in this graph", relation_id)
    if not any(totals.values()):
        raise ValueError(
            f"the graph has no fact of any {client.graph.namespace} relation in relations.tsv (properties "
            f"{client.graph.properties}…): check that it is a graph of this namespace"
        )
    if sum(totals.values()) <= max_facts:
        found, odd = _all_facts(client, relation_ids)
    else:
        log.info("%d facts are more than max_facts = %d: sampling", sum(totals.values()), max_facts)
        found, odd = _facts_by_entity(client, totals, max_facts, seed)
        if not found:
            raise ValueError(f"max_facts = {max_facts} is less than the facts around one entity; raise it")
    log.info("%d facts; left out: %s", len(found), dict(odd) or "nothing")
    frame = pd.DataFrame(sorted(found), columns=["subject_id", "relation_id", "object_id"])
    return frame, odd


def _all_facts(client: Client, relation_ids: Iterable[str]) -> tuple[set[Fact], Counter]:
    rows: set[Fact] = set()
    odd: Counter = Counter()
    for relation_id in relation_ids:
        found = fetch(client, facts(relation_id), by=("s",))
        rows.update((s, relation_id, o) for s, o in found.ids)
        odd += found.odd
    return rows, odd


def _facts_by_entity(
    client: Client, totals: dict[str, int], max_facts: int, seed: int
) -> tuple[set[Fact], Counter]:
    """Facts of subjects, in the order of their hashes, and of their objects, up to `max_facts`."""
    subjects = _subjects(client, totals, max_facts, seed)
    neighbours = Neighbourhoods(client, [r for r, number in totals.items() if number])
    taken: set[Fact] = set()
    for start in range(0, len(subjects), BATCH):
        batch = subjects[start : start + BATCH]
        neighbours.load(batch)
        neighbours.load(o for subject in batch for _, _, o in neighbours.facts[subject])
        for subject in batch:
            own = neighbours.facts[subject]
            more = own.union(*(neighbours.facts[o] for _, _, o in own)) - taken
            if len(taken) + len(more) > max_facts:
                return taken, neighbours.odd
            taken |= more
    return taken, neighbours.odd


def _subjects(client: Client, totals: dict[str, int], max_facts: int, seed: int) -> list[str]:
    """Subjects with about `max_facts` facts of their own, ordered by their hashes."""
    limit = hash_limit(max_facts, sum(totals.values()))
    subjects = set()
    for relation_id in totals:
        pattern = facts(relation_id).hashed_below(seed, limit, ("s",)) if limit else facts(relation_id)
        subjects.update(list_values(client, pattern, "s", count(client, pattern)))
    entity_ids = {client.graph.entity_id(subject) for subject in subjects} - {None}
    return sorted(entity_ids, key=lambda entity_id: iri_hash(seed, client.graph.iri(entity_id)))


class Neighbourhoods:
    """The listed facts of entities, each asked for once."""

    def __init__(self, client: Client, relation_ids: Sequence[str]) -> None:
        self.client = client
        self.pattern = neighbourhood(relation_ids)
        self.facts: dict[str, set[Fact]] = defaultdict(set)
        self.loaded: set[str] = set()
        self.odd: Counter = Counter()

    def load(self, entity_ids: Iterable[str]) -> None:
        """Ask for the facts of those entities that were not asked for before."""
        new = sorted(set(entity_ids) - self.loaded)
        for start in range(0, len(new), BATCH):
            found = fetch(self.client, self.pattern.among("s", new[start : start + BATCH]), by=("s",))
            for fact in found.ids:
                self.facts[fact[0]].add(fact)
            self.odd += found.odd
        self.loaded.update(new)
