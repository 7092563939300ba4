"""Small graphs of the world's namespace: as N-Triples, in a store, behind a client, and as tables."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pandas as pd
import pyoxigraph

from aftershock.kg.client import Client
from aftershock.kg.endpoint import serve
from aftershock.kg.graph import GRAPHS

WORLD = GRAPHS["world"]
LABEL = "<http://www.w3.org/2000/01/rdf-schema#label>"
SAME_AS = "<http://www.w3.org/2002/07/owl#sameAs>"

Fact = tuple[str, str, str]


def triple(subject: str, relation: str, term: str) -> str:
    """One line of N-Triples; what is no id of an entity or a property is given as a term."""
    relation = relation if relation.startswith("<") else f"<{WORLD.properties}{relation}>"
    ending = f"<{WORLD.iri(term)}>" if WORLD.is_entity_id(term) else term
    return f"<{WORLD.iri(subject)}> {relation} {ending} .\n"


def store_of(lines: Iterable[str]) -> pyoxigraph.Store:
    store = pyoxigraph.Store()
    store.load(input="".join(lines).encode(), format=pyoxigraph.RdfFormat.N_TRIPLES)
    return store


@contextmanager
def client_of(lines: Iterable[str]) -> Iterator[Client]:
    """A client of an endpoint that serves these lines, for as long as the block runs."""
    with serve(store_of(lines)) as url:
        yield Client(url, WORLD)


def as_sample(facts: Iterable[Fact]) -> pd.DataFrame:
    return pd.DataFrame(sorted(facts), columns=["subject_id", "relation_id", "object_id"])


def as_instances(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["rule", "x_id", "y_id", "z_id"])


def as_sheet(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Rows of rules.tsv."""
    return pd.DataFrame(rows, columns=["rule", "status", "reason"])


def as_labels(rows: Iterable[tuple[str, str | None, str | None, str | None]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["entity_id", "label", "language", "redirect"])


def rows_of(table: pd.DataFrame, *columns: str) -> set[tuple]:
    """Rows of all columns, or of some."""
    return set(table[list(columns or table.columns)].itertuples(index=False, name=None))
