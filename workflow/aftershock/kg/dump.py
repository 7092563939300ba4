"""Bulk reader of a dump: facts of some relations, labels, redirects, and the lines that are broken.

A truthy dump of Wikidata has billions of lines, of which a tenth matters. So blocks of lines are taken apart
with array operations (`words`). Lines that matter but do not look as dumps write them (other blanks, escapes
in an IRI, an object that is no entity) are read one by one (`terms`). Of lines about anything else only the
outline is checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from aftershock.kg.graph import Graph
from aftershock.kg.terms import read_triple, term_number
from aftershock.kg.words import WORD, Lines, Words, decimals, ends_with

LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
SAME_AS = "http://www.w3.org/2002/07/owl#sameAs"
LANGUAGES = ("en", "mul")
MAX_DIGITS = 16  # of the longest id that is read in bulk


@dataclass
class Extract:
    """Content of some lines; entities are the numbers in their ids, other terms negative numbers."""

    lines: int
    facts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    """Places in the list of relations, subjects, objects."""
    statements: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    """The same of statements of every rank, where both are entities."""
    redirects: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Entities and their targets."""
    labels: list[tuple[int, str, str]] = field(default_factory=list)
    """Entity, language and label."""
    oddities: dict[int, str] = field(default_factory=dict)
    """Descriptions of the negative numbers."""
    broken: list[bytes] = field(default_factory=list)
    """Lines that are not N-Triples."""


class DumpReader:
    """Reader of a graph's lines for the facts of some relations."""

    def __init__(self, graph: Graph, relation_ids: Sequence[str]) -> None:
        self.graph = graph
        kinds = (graph.properties, *((graph.statements.values,) if graph.statements else ()))
        properties = [prefix + relation_id for prefix in kinds for relation_id in relation_ids]
        self.relations = len(
            relation_ids
        )  # properties from the place of that number on lead to statements' values
        self.places = {iri: place for place, iri in enumerate(properties)}
        self.label, self.same = len(properties), len(properties) + 1
        self.predicates = Words([f"<{iri}>".encode() for iri in (*properties, LABEL, SAME_AS)])
        self.entity = Words([f"<{graph.entities}{graph.entity_letter}".encode()])
        self.nodes = [
            Words([f"<{graph.statements.nodes}{letter}".encode()])
            for letter in (graph.entity_letter, graph.entity_letter.lower())
            if graph.statements
        ]

    def read(self, text: bytes) -> Extract:
        """Return the content of the lines in `text`, each of which ends with its line break."""
        lines = Lines(text)
        found = Extract(len(lines.ends))
        kind = np.full(len(lines.ends), -1)
        (regular,) = np.nonzero(lines.regular)
        kind[regular] = self.predicates.find(lines, lines.first[regular] + 1, lines.second[regular])
        rest = [
            np.flatnonzero(~lines.regular),
            self._links(lines, kind, found),
            self._statements(lines, kind, found),
            self._labels(lines, np.flatnonzero(kind == self.label), found),
        ]
        self._one_by_one(lines, np.concatenate(rest), found)
        return found

    def _links(self, lines: Lines, kind: np.ndarray, found: Extract) -> np.ndarray:
        """Add facts and redirects between entities; return the lines to be read one by one."""
        fact_or_redirect = ((kind >= 0) & (kind < self.relations)) | (kind == self.same)
        (links,) = np.nonzero(fact_or_redirect)
        subjects, good = self._entities(lines, lines.starts[links], lines.first[links])
        objects, also = self._entities(lines, lines.second[links] + 1, lines.ends[links] - 2)
        good &= also
        kinds = kind[links]
        fact, redirect = good & (kinds != self.same), good & (kinds == self.same)
        found.facts.append((kinds[fact], subjects[fact], objects[fact]))
        found.redirects.append((subjects[redirect], objects[redirect]))
        return links[~good]

    def _statements(self, lines: Lines, kind: np.ndarray, found: Extract) -> np.ndarray:
        """Add values of statements that are entities; return the lines to be read one by one."""
        (links,) = np.nonzero((kind >= self.relations) & (kind < self.label))
        objects, good = self._entities(lines, lines.second[links] + 1, lines.ends[links] - 2)
        starts = lines.starts[links]
        subjects, named = np.zeros(len(links), np.int64), np.zeros(len(links), bool)
        for node in self.nodes:
            numbers, own = self._numbers(lines, node, starts, _dashes(lines, starts + node.lengths[0]))
            subjects, named = np.where(own, numbers, subjects), named | own
        good &= named
        found.statements.append((kind[links][good] - self.relations, subjects[good], objects[good]))
        literal = lines.bytes[lines.second[links] + 1] == ord('"')
        return links[~good & ~literal]

    def _labels(self, lines: Lines, labels: np.ndarray, found: Extract) -> np.ndarray:
        """Add labels in one of the languages; return the lines to be read one by one."""
        care = [labels[:0]]
        for language in LANGUAGES:
            tail = f'"@{language} .\n'.encode()
            these = labels[ends_with(lines, lines.ends[labels] + 1, tail)]
            entities, good = self._entities(lines, lines.starts[these], lines.first[these])
            starts = (lines.second[these] + 2).tolist()
            ends = (lines.ends[these] + 1 - len(tail)).tolist()
            for place, (entity, start, end) in enumerate(zip(entities.tolist(), starts, ends, strict=True)):
                text = lines.text[start:end]
                if not good[place] or b'"' in text or b"\\" in text or lines.text[start - 1] != ord('"'):
                    good[place] = False
                    continue
                try:
                    found.labels.append((entity, language, text.decode()))
                except UnicodeDecodeError:
                    good[place] = False
            care.append(these[~good])
        return np.concatenate(care)

    def _entities(self, lines: Lines, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the entities whose IRIs stand at [start, end), and a mask of the valid ones."""
        numbers, good = self._numbers(lines, self.entity, starts, ends - 1)
        return numbers, good & (lines.bytes[ends - 1] == ord(">"))

    def _numbers(
        self, lines: Lines, before: Words, starts: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers between `before`, which stands at `starts`, and `ends`; a mask of the valid ones."""
        digits = starts + before.lengths[0]
        counts = ends - digits
        good = before.begins(lines, starts) & (counts > 0) & (counts <= MAX_DIGITS)
        good &= (counts == 1) | (lines.bytes[digits] != ord("0"))
        counts = np.where(good, counts, 1)
        numbers, valid = decimals(lines.words[ends - WORD], np.minimum(counts, WORD))
        good &= valid
        (long,) = np.nonzero(counts > WORD)
        high, valid = decimals(lines.words[ends[long] - 2 * WORD], counts[long] - WORD)
        numbers[long] += high * 10**WORD
        good[long] &= valid
        return numbers, good

    def _one_by_one(self, lines: Lines, numbers: np.ndarray, found: Extract) -> None:
        """Add the content of these lines, each parsed on its own."""
        facts, statements, redirects = [], [], []
        for number in numbers.tolist():
            try:
                triple = read_triple(lines.line(number))
            except ValueError:
                found.broken.append(lines.line(number))
                continue
            if triple is None:
                continue
            subject, predicate, value = triple
            place = self.places.get(predicate, -1)
            if place >= self.relations:
                about = self.graph.described_id(subject)
                if about and self.graph.entity_id(value):
                    statements.append(
                        (place - self.relations, int(about[1:]), term_number(self.graph, value))
                    )
            elif place >= 0:
                ids = [term_number(self.graph, term) for term in (subject, value)]
                facts.append((place, *ids))
                for term, id_ in zip((subject, value), ids, strict=True):
                    if id_ < 0:
                        found.oddities[id_] = self.graph.oddity(term)
            elif predicate == LABEL and value.language in LANGUAGES and self.graph.entity_id(subject):
                found.labels.append((term_number(self.graph, subject), value.language, value.value))
            elif predicate == SAME_AS and self.graph.entity_id(subject) and self.graph.entity_id(value):
                redirects.append(tuple(term_number(self.graph, term) for term in (subject, value)))
        for rows, part in ((facts, found.facts), (statements, found.statements)):
            part.append(tuple(np.array(rows, np.int64).reshape(-1, 3).T))
        found.redirects.append(tuple(np.array(redirects, np.int64).reshape(-1, 2).T))


def _dashes(lines: Lines, starts: np.ndarray) -> np.ndarray:
    """Place of the first dash where a number of MAX_DIGITS may end; of `starts` where there is none."""
    found = starts.copy()
    for place in range(MAX_DIGITS, 0, -1):
        found = np.where(lines.bytes[starts + place] == ord("-"), starts + place, found)
    return found
