"""Graphs: the namespaces of their entities and relations, and the form of their ids.

Queries are written with the prefixes wd: and wdt: for every graph; only what these stand for differs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

MAX_DIGITS = 18  # of an id, which fits into 64 bits; it does not start with a zero
UNKNOWN_VALUE = "/.well-known/genid/"


class Term(NamedTuple):
    """One RDF term in a query's answer."""

    kind: str  # uri, literal or bnode
    value: str
    language: str | None = None


class Statements(NamedTuple):
    """IRI prefixes of statements with a node of their own, which a graph has of every rank."""

    claims: str  # of properties from an entity to a statement
    values: str  # of properties from a statement to its value
    nodes: str  # of statements; the entity's id follows, then a dash


@dataclass(frozen=True)
class Graph:
    """A namespace of entities and of truthy (best-rank) properties."""

    namespace: str
    entities: str  # IRI prefix
    properties: str  # IRI prefix of truthy properties
    entity_letter: str
    relation_letter: str
    about: str  # subject of false statements in a notice, as a phrase
    licence: str
    other_letters: tuple[str, ...] = ()  # of ids that are neither entities nor relations, such as lexemes
    human: tuple[str, str] | None = None  # the relation and object that make an entity a human being
    death: str | None = None  # the relation that gives a person's date of death
    statements: Statements | None = None  # where the graph has values that are not of the best rank

    @cached_property
    def prefixes(self) -> str:
        """The PREFIX lines of every query."""
        return (
            f"PREFIX wd: <{self.entities}>\n"
            f"PREFIX wdt: <{self.properties}>\n"
            "PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#>\n"
            "PREFIX owl: <http://www.w3.org/2002/07/owl#>\n"
        )

    @property
    def of_lives(self) -> set[str]:
        """The relations that tell whether a person is alive."""
        return {self.human[0], self.death} if self.human and self.death else set()

    def entity_id(self, term: Term | None) -> str | None:
        """Id of the entity that `term` names; None when it names none."""
        return self._id(term, self.entities, self.entity_letter)

    def relation_id(self, term: Term | None) -> str | None:
        """Id of the relation whose truthy property `term` names; None when it names none."""
        return self._id(term, self.properties, self.relation_letter)

    def value_relation_id(self, term: Term | None) -> str | None:
        """Id of the relation of which `term` leads from a statement to its value; None when it does not."""
        return self._id(term, self.statements.values, self.relation_letter) if self.statements else None

    def described_id(self, term: Term | None) -> str | None:
        """Id of the entity that a statement is about; None when `term` names no statement."""
        if not self.statements or term is None or not term.value.startswith(self.statements.nodes):
            return None
        name, dash, _ = term.value[len(self.statements.nodes) :].partition("-")
        name = name[:1].upper() + name[1:]  # old statements have small letters
        return name if dash and self.is_entity_id(name) else None

    def is_entity_id(self, text: str) -> bool:
        """True if `text` has the form of an entity's id."""
        return _is_id(text, self.entity_letter)

    def is_id(self, text: str) -> bool:
        """True if `text` has the form of any id of this graph."""
        letters = (self.entity_letter, self.relation_letter, *self.other_letters)
        return any(_is_id(text, letter) for letter in letters)

    def iri(self, entity_id: str) -> str:
        """IRI of an entity."""
        return self.entities + entity_id

    def oddity(self, term: Term | None) -> str:
        """Description of a term that names no entity of this graph."""
        if term is None or term.kind == "bnode" or UNKNOWN_VALUE in term.value:
            return "unknown value"
        return "literal" if term.kind == "literal" else "IRI that is no entity"

    def _id(self, term: Term | None, prefix: str, letter: str) -> str | None:
        if term is None or term.kind != "uri" or not term.value.startswith(prefix):
            return None
        name = term.value[len(prefix) :]
        return name if _is_id(name, letter) else None


def _is_id(text: str, letter: str) -> bool:
    number = text[1:]
    if not (text.startswith(letter) and number.isascii() and number.isdigit()):
        return False
    return len(number) <= MAX_DIGITS and (number == "0" or number[0] != "0")


GRAPHS = {
    graph.namespace: graph
    for graph in (
        Graph(
            "world",
            "https://aftershock.invalid/entity/",
            "https://aftershock.invalid/prop/direct/",
            "E",
            "R",
            "about people who do not exist",
            "MIT, as this project: a generated world of invented people and places",
        ),
        Graph(
            "atlas",
            "https://aftershock.invalid/atlas/entity/",
            "https://aftershock.invalid/atlas/prop/direct/",
            "A",
            "T",
            "about real places",
            "those of the data that it is made of, above; GeoNames asks to be named",
        ),
        Graph(
            "wikidata",
            "http://www.wikidata.org/entity/",
            "http://www.wikidata.org/prop/direct/",
            "Q",
            "P",
            "many about real people",
            "CC0 1.0: Wikidata's statements and labels are dedicated to the public domain",
            ("L",),
            human=("P31", "Q5"),
            death="P570",
            statements=Statements(
                "http://www.wikidata.org/prop/",
                "http://www.wikidata.org/prop/statement/",
                "http://www.wikidata.org/entity/statement/",
            ),
        ),
    )
}


def graphs_of(entity_id: str) -> tuple[Graph, ...]:
    """The graphs whose entities have ids like this one; all of them where none has."""
    return tuple(g for g in GRAPHS.values() if g.is_entity_id(entity_id)) or tuple(GRAPHS.values())


def find_graph(namespace: str) -> Graph:
    """The graph of a namespace; ValueError when there is none."""
    if namespace not in GRAPHS:
        raise ValueError(f"unknown namespace {namespace!r}; known namespaces: {', '.join(sorted(GRAPHS))}")
    return GRAPHS[namespace]
