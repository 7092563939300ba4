"""A graph behind a SPARQL endpoint, asked page by page."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from aftershock.kg.client import Client
from aftershock.kg.graph import Graph, Term
from aftershock.kg.logic import LogicRule
from aftershock.kg.names import find_living, find_names
from aftershock.kg.pages import Found, Ids, count, fetch, fetch_values, list_values
from aftershock.kg.queries import Pattern, facts, instances, neighbourhood, of_every_rank

SUBJECTS = 400  # of one request about all relations: some thousand rows


class EndpointSource:
    """The answers of a client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def graph(self) -> Graph:
        """The graph that is asked about."""
        return self.client.graph

    def count_facts(self, relation_id: str) -> int:
        """Number of distinct statements of a relation."""
        return count(self.client, facts(relation_id))

    def facts(self, relation_id: str) -> Found:
        """(subject, object) of all facts of a relation."""
        return fetch(self.client, facts(relation_id), by=("s",))

    def subjects(self, relation_id: str, seed: int, limit: str | None) -> set[str]:
        """The subjects of a relation whose seeded hash starts with digits below `limit`; None takes all."""
        pattern = facts(relation_id)
        if limit:
            pattern = pattern.hashed_below(seed, limit, ("s",))
        return set(self._counts(list_values(self.client, pattern, "s", count(self.client, pattern))))

    def facts_about(self, entity_ids: Iterable[str], relation_ids: Sequence[str]) -> Found:
        """(subject, relation, object) of the facts of some relations about some entities."""
        return self._about(entity_ids, neighbourhood(relation_ids))

    def stated_about(self, entity_ids: Iterable[str], relation_ids: Sequence[str]) -> Found:
        """(subject, relation, object) of statements of every rank of some relations about some entities.

        Nothing where the graph has no statements.
        """
        if self.graph.statements is None:
            return Found()
        found = self._about(entity_ids, of_every_rank(relation_ids, self.graph.statements))
        return Found(sorted({(subject, relation_id, value) for subject, _, relation_id, value in found.ids}))

    def _about(self, entity_ids: Iterable[str], pattern: Pattern) -> Found:
        """The solutions of a pattern whose subjects are some entities, sorted."""
        ordered, found = sorted(entity_ids), Found()
        for start in range(0, len(ordered), SUBJECTS):
            found.add(fetch(self.client, pattern.among("s", ordered[start : start + SUBJECTS]), by=("s",)))
        found.ids.sort()
        return found

    def count_instances(self, rule: LogicRule) -> int:
        """Number of assignments of a rule's variables for which all its facts hold, equal values too."""
        return count(self.client, instances(rule))

    def instances(self, rule: LogicRule, total: int, keep: Callable[[Ids], bool]) -> Found:
        """(x, y), or (x, y, z) of a chain, of a rule's `total` instances; only those that `keep` accepts."""
        return fetch(self.client, instances(rule), by=("y", "x"), total=total, keep=keep)

    def object_counts(self, relation_id: str, least: int) -> dict[str, int]:
        """Number of statements of a relation per subject with at least `least` of them."""
        pattern = facts(relation_id)
        listed = self._counts(list_values(self.client, pattern, "s", count(self.client, pattern)))
        return {subject: number for subject, number in listed.items() if number >= least}

    def objects(self, relation_id: str, counts: Mapping[str, int]) -> Found:
        """(subject, object) of the subjects of `counts`, which has the number of statements of each."""
        return fetch_values(self.client, facts(relation_id), "s", counts)

    def names(self, entity_ids: Iterable[str]) -> dict[str, tuple[str | None, str | None, str | None]]:
        """Label, its language and the redirect's target of each entity, None where there is none."""
        return find_names(self.client, entity_ids)

    def living(self, entity_ids: Iterable[str]) -> set[str]:
        """The human beings among some entities for whom the graph states no death."""
        return find_living(self.client, entity_ids)

    def _counts(self, listed: Mapping[Term | None, int]) -> dict[str, int]:
        """Numbers by id, of the entities among some terms."""
        named = ((self.graph.entity_id(term), number) for term, number in listed.items())
        return {entity_id: number for entity_id, number in named if entity_id is not None}
