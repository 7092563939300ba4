"""The queries that mining needs of a graph, answered by a remote service, a local store or a dump.

All sources give the same rows. Terms that are no entities of the graph (literals, unknown values, others) are
left out of the rows and counted; solutions are counted with them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from aftershock.kg.cache import Cache
from aftershock.kg.client import Client, PageSize, Patience
from aftershock.kg.dump_source import DumpSource
from aftershock.kg.endpoint import serve
from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.graph import Graph, find_graph
from aftershock.kg.logic import LogicRule
from aftershock.kg.pages import Found, Ids

LOCAL_SECONDS = 600  # for one query: no one else waits for our own store
LOCAL_PAGE = PageSize(rows=100_000)


class Source(Protocol):
    """The answers about one graph; ids in rows are sorted as text."""

    @property
    def graph(self) -> Graph:
        """The graph that is asked about."""

    def count_facts(self, relation_id: str) -> int:
        """Number of distinct statements of a relation."""

    def facts(self, relation_id: str) -> Found:
        """(subject, object) of all facts of a relation."""

    def subjects(self, relation_id: str, seed: int, limit: str | None) -> set[str]:
        """The subjects of a relation whose seeded hash starts with digits below `limit`; None takes all."""

    def facts_about(self, entity_ids: Iterable[str], relation_ids: Sequence[str]) -> Found:
        """(subject, relation, object) of the facts of some relations about some entities."""

    def stated_about(self, entity_ids: Iterable[str], relation_ids: Sequence[str]) -> Found:
        """(subject, relation, object) of statements of every rank of some relations about some entities.

        Nothing where the graph has no statements; what was left out is not counted.
        """

    def count_instances(self, rule: LogicRule) -> int:
        """Number of assignments of a rule's variables for which all its facts hold, equal values too."""

    def instances(self, rule: LogicRule, total: int, keep: Callable[[Ids], bool]) -> Found:
        """(x, y), or (x, y, z) of a chain, of a rule's `total` instances; only those that `keep` accepts."""

    def object_counts(self, relation_id: str, least: int) -> dict[str, int]:
        """Number of statements of a relation per subject with at least `least` of them."""

    def objects(self, relation_id: str, counts: Mapping[str, int]) -> Found:
        """(subject, object) of the subjects of `counts`, which has the number of statements of each."""

    def names(self, entity_ids: Iterable[str]) -> dict[str, tuple[str | None, str | None, str | None]]:
        """Label, its language and the redirect's target of each entity, None where there is none.

        The English label, else the one for all languages; of several the first in the order of code points.
        """

    def living(self, entity_ids: Iterable[str]) -> set[str]:
        """The human beings among some entities for whom no death is stated, not even an unknown one."""


@contextmanager
def connect(
    source: Mapping[str, Any], store: str | os.PathLike | None, cache: Path | None = None
) -> Iterator[Source]:
    """Yield the source of a graph; `source` is its entry under `kgs` in the config.

    An entry with a `url` is asked there, and its answers are kept in the folder `cache`. Of a dump, `store`
    is the folder that was made from it. Otherwise the store folder is served for as long as the block runs:
    asking it again costs less than keeping its answers.
    """
    graph = find_graph(source["namespace"])
    if "url" in source:
        kept = Cache(cache) if cache else None
        yield EndpointSource(Client(source["url"], graph, source["contact"], cache=kept))
    elif store is None:
        raise ValueError(f"the graph of namespace {source['namespace']!r} has neither a url nor a store")
    elif source.get("source") == "dump":
        with DumpSource(store, graph) as dump:
            yield dump
    else:
        with serve(store, LOCAL_SECONDS) as url:
            patience = Patience(seconds=LOCAL_SECONDS + 15)
            yield EndpointSource(Client(url, graph, patience=patience, page=LOCAL_PAGE))
