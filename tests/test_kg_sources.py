"""An endpoint, a store, a dump and a second SPARQL engine give the same rows."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import rdflib
from rdflib.namespace import OWL, RDFS

from aftershock.kg.client import Client
from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.endpoint import Endpoint
from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.graph import GRAPHS, Graph
from aftershock.kg.labels import find_labels
from aftershock.kg.partitions import load_dump
from aftershock.kg.sample import sample_facts
from aftershock.kg.sheets import read_relations
from aftershock.kg.source import Source, connect
from aftershock.kg.store import load_triples
from test_kg import ODD, RELATIONS_USED, RULES_USED, WORLD, dirty_triples
from worlds import SLICE, ask

RESOURCES = Path(__file__).parents[1] / "resources"
ALL = 1_000_000

Tables = dict[str, tuple[pd.DataFrame, Any]]


class OtherEndpoint(Endpoint):
    """An endpoint over rdflib, which shares no code with the store's engine."""

    def answer(self, query: str) -> bytes:
        """JSON answer to a SELECT query."""
        return self.store.query(query).serialize(format="json")


class OtherSource(EndpointSource):
    """Asks for names without SPARQL: rdflib loses rows where an OPTIONAL with a FILTER does not match."""

    def __init__(self, client: Client, store: rdflib.Graph) -> None:
        super().__init__(client)
        self.store = store

    def names(self, entity_ids: Iterable[str]) -> dict[str, tuple[str | None, str | None, str | None]]:
        """Label, its language and the redirect's target of each entity."""
        return {entity_id: (*self.label(entity_id), self.target(entity_id)) for entity_id in entity_ids}

    def label(self, entity_id: str) -> tuple[str | None, str | None]:
        """English label, or the one for all languages, and its language."""
        labels = set(self.store.objects(rdflib.URIRef(self.graph.iri(entity_id)), RDFS.label))
        tagged = [((label.language or "").lower(), str(label)) for label in labels]
        named = [(language, label) for language, label in tagged if language in ("en", "mul")]
        language, label = min(named, default=(None, None))
        return label, language

    def target(self, entity_id: str) -> str | None:
        """Return the entity that another one redirects to."""
        targets = self.store.objects(rdflib.URIRef(self.graph.iri(entity_id)), OWL.sameAs)
        return min((str(target).removeprefix(self.graph.entities) for target in targets), default=None)


@contextmanager
def served_by_rdflib(text: str, graph: Graph) -> Iterator[Source]:
    """The source of N-Triples behind rdflib."""
    store = rdflib.Graph().parse(data=text, format="nt")
    with OtherEndpoint(store, 600) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield OtherSource(Client(endpoint.url, graph), store)
        endpoint.shutdown()
        thread.join()


def every_table(source, relation_ids, rules, keys, shares):
    """All that is mined from a source, whole and in samples, each with what was left out."""
    tables: Tables = {"sample": sample_facts(source, relation_ids, ALL, 0)}
    number = len(tables["sample"][0])
    tables |= {f"1/{n} of the facts": sample_facts(source, relation_ids, int(number / n), 3) for n in shares}
    tables |= {f"some {rule}": find_combinations(source, rule, 20, 3) for rule in rules}
    tables |= {str(rule): find_combinations(source, rule, ALL, 0) for rule in rules}
    tables |= {relation_id: find_objects(source, relation_id) for relation_id in keys}
    ids = tables["sample"][0][["subject_id", "object_id"]]
    tables["labels"] = find_labels(source, set(ids.melt()["value"])), None
    return tables


def assert_equal(tables: Tables, others: Tables) -> None:
    assert tables.keys() == others.keys()
    for name, (frame, left_out) in tables.items():
        pd.testing.assert_frame_equal(frame, others[name][0], obj=name)
        assert left_out == others[name][1], name


def test_a_dirty_graph_is_the_same_from_all_sources(tmp_path) -> None:
    text = dirty_triples()
    (tmp_path / "graph.nt").write_text(text)
    load_triples(tmp_path / "graph.nt", tmp_path / "store")
    load_dump(tmp_path / "graph.nt", tmp_path / "dump", WORLD, [*RELATIONS_USED, "R9"])
    wanted = list(RELATIONS_USED), RULES_USED[::3], list(RELATIONS_USED), (1.2,)
    with connect({"namespace": "world"}, tmp_path / "store") as source:
        stored = every_table(source, *wanted)
    with connect({"namespace": "world", "source": "dump"}, tmp_path / "dump") as source:
        assert_equal(every_table(source, *wanted), stored)
        assert source.count_facts("R9") == len(find_objects(source, "R9")[0]) == 0
    with served_by_rdflib(text, WORLD) as source:
        assert_equal(every_table(source, *wanted), stored)
    assert stored["sample"][1] == ODD
    labels = stored["labels"][0]
    assert labels["redirect"].notna().sum() == 1
    assert set(labels["language"].dropna()) == {"en", "mul"}


@pytest.mark.skipif(not SLICE.exists(), reason=f"needs the slice of Wikidata, {SLICE.name}")
@pytest.mark.thorough
def test_real_facts_are_the_same_from_store_and_dump(tmp_path, slice_asked) -> None:
    relation_ids = read_relations(RESOURCES / "relations.tsv", "wikidata")["relation_id"].tolist()
    load_dump(SLICE, tmp_path / "dump", GRAPHS["wikidata"], relation_ids)
    with connect({"namespace": "wikidata", "source": "dump"}, tmp_path / "dump") as source:
        read = ask(source, "wikidata")
    assert_equal(
        {**read.found, "labels": (read.labels, None)},
        {**slice_asked.found, "labels": (slice_asked.labels, None)},
    )
    assert len(read.found["P22>P40"][0]) == 1182


def test_a_run_without_a_graph_has_no_relations() -> None:
    whole = read_relations(RESOURCES / "relations.tsv", "world")
    none = read_relations(RESOURCES / "relations.tsv", None)
    assert none.columns.tolist() == whole.columns.tolist()
    assert none.empty
