"""Parser of single N-Triples lines, for the few that are not read in bulk."""

import hashlib
import re

from aftershock.kg.graph import Graph, Term

STRING = "http://www.w3.org/2001/XMLSchema#string"  # datatype of a literal without one

IRI = r"<([^\x00-\x20<>\"{}|^`]*)>"
BLANK = r"_:([^\s<>\"]+)"
TEXT = r'"((?:[^"\\\n\r]|\\.)*)"(?:@([a-zA-Z]+(?:-[a-zA-Z0-9]+)*)|\^\^' + IRI + ")?"
TRIPLE = re.compile(
    rf"[ \t]*(?:{IRI}|{BLANK})[ \t]*{IRI}[ \t]*(?:{IRI}|{BLANK}|{TEXT})[ \t]*\.[ \t]*(?:#.*)?\r?", re.DOTALL
)
NOTHING = re.compile(r"[ \t\r]*(?:#.*)?", re.DOTALL)
ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
MEANT = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}

SURROGATES = range(0xD800, 0xE000)  # halves of a character in UTF-16, which no text of Unicode has

Triple = tuple[Term, str, Term]


def read_triple(line: bytes) -> Triple | None:
    """Subject, predicate and object of a line; None for a comment. ValueError when it is not N-Triples."""
    text = line.decode()  # UnicodeDecodeError is a ValueError
    match = TRIPLE.fullmatch(text)
    if not match:
        if NOTHING.fullmatch(text):
            return None
        raise ValueError("not a statement in N-Triples")
    subject, subject_blank, predicate, object_, object_blank, literal, language, datatype = match.groups()
    value = _named(object_, object_blank)
    if literal is not None:
        value = Term("literal", unescape(literal), tag_of(language, datatype and unescape(datatype)))
    return _named(subject, subject_blank), unescape(predicate), value


def unescape(text: str) -> str:
    """`text` without escapes; ValueError for one that N-Triples does not have."""
    return ESCAPE.sub(_meant, text) if "\\" in text else text


def term_number(graph: Graph, term: Term) -> int:
    """The number in an entity's id; for any other term a negative number, from a hash of the term."""
    entity_id = graph.entity_id(term)
    if entity_id:
        return int(entity_id[1:])
    digest = hashlib.blake2b(repr(tuple(term)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -1 - (int.from_bytes(digest) >> 1)


def _named(iri: str | None, blank: str | None) -> Term:
    return Term("bnode", blank or "") if iri is None else Term("uri", unescape(iri))


def tag_of(language: str | None, datatype: str | None) -> str | None:
    """The language of a literal: ^^ and its datatype where it has one that is not text."""
    if language:
        return language.lower()
    return None if datatype in (None, STRING) else f"^^{datatype}"


def _meant(match: re.Match) -> str:
    short, long, letter = match.groups()
    if letter is None:
        code = int(short or long, 16)
        if code in SURROGATES:
            raise ValueError(f"half of a character \\u{code:04X}")
        return chr(code)  # ValueError when there is no such character
    if letter not in MEANT:
        raise ValueError(f"unknown escape \\{letter}")
    return MEANT[letter]
