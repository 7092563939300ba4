"""Lines of a dump: odd terms and layouts, drawn at random, and as another parser reads them."""

import random

import pyoxigraph

from aftershock.kg.graph import GRAPHS, Term
from graphs import LABEL, SAME_AS

WIKIDATA = GRAPHS["wikidata"]
USED = ["P22", "P2", "P10000"]
ENTITY, DIRECT = WIKIDATA.entities, WIKIDATA.properties
SUBJECTS = [
    *(f"<{ENTITY}Q{n}>" for n in (0, 1, 42, 12345678, 123456789, 9999999999999999, 123456789012345678)),
    f"<{ENTITY}Q007>",
    f"<{ENTITY}Q1234567890123456789>",
    *(f"<{ENTITY}{name}>" for name in ("Q", "Q1a", "Q1:", "Q/1", "Q1\xff", "QQ1")),
    f"<{ENTITY}P31>",
    f"<{ENTITY}\\u005142>",
    "<http://www.wikidata.org/.well-known/genid/ab12>",
    "<http://example.org/Q42>",
    "_:b1",
]
PREDICATES = [
    *(f"<{DIRECT}{name}>" for name in (*USED, "P220", "P3", "P1000")),
    f"<{DIRECT}P\\u00322>",
    "<http://www.wikidata.org/prop/statement/P22>",
    f"<{DIRECT.replace('prop', 'prap')}P22>",
    LABEL,
    SAME_AS,
    "<http://schema.org/description>",
]
TEXTS = ["Ada", 'a \\"b\\" \\\\ c', "\\u00e9 <x> .", "é 漢", ""]
OBJECTS = [
    *SUBJECTS,
    '"1970"',
    '"1970-01-01T00:00:00Z"^^<http://www.w3.org/2001/XMLSchema#dateTime>',
    *(f'"{text}"@{tag}' for text in TEXTS for tag in ("en", "mul")),
    '"Ada"@de',
    '"Ada"@EN',
    '"Ada"@en-gb',
]
SHAPES = ["{} {} {} .\n"] * 12 + ["{}\t{}  {} .\n", "{} {} {}.\n", "  {} {} {} . # end\n", "{} {} {} .\r\n"]
SHAPES += ["{} {} {}  .\n", "# {} {} {} .\n", "{} {} {} . \n"]


def random_lines(seed: int, count: int = 3000) -> list[str]:
    """Statements in all the ways that N-Triples allows, and empty lines."""
    rng = random.Random(seed)
    lines = [
        rng.choice(SHAPES).format(rng.choice(SUBJECTS), rng.choice(PREDICATES), rng.choice(OBJECTS))
        for _ in range(count)
    ]
    return [*lines, "\n", "   \n", "# nothing\n"]


def parsed(lines: list[str]) -> tuple[set, set, set]:
    """Facts, labels and redirects by another program's parser."""
    facts, labels, redirects = set(), set(), set()
    for quad in pyoxigraph.parse("".join(lines).encode(), format=pyoxigraph.RdfFormat.N_TRIPLES):
        subject, value = (_term(term) for term in (quad.subject, quad.object))
        predicate = quad.predicate.value
        if predicate.removeprefix(DIRECT) in USED:
            facts.add((predicate.removeprefix(DIRECT), subject, value))
        elif f"<{predicate}>" == LABEL and value.language in ("en", "mul") and WIKIDATA.entity_id(subject):
            labels.add((WIKIDATA.entity_id(subject), value.language, value.value))
        elif f"<{predicate}>" == SAME_AS and WIKIDATA.entity_id(subject) and WIKIDATA.entity_id(value):
            redirects.add((WIKIDATA.entity_id(subject), WIKIDATA.entity_id(value)))
    return facts, labels, redirects


def _term(term) -> Term:
    if isinstance(term, pyoxigraph.NamedNode):
        return Term("uri", term.value)
    if isinstance(term, pyoxigraph.BlankNode):
        return Term("bnode", term.value)
    datatype = None if term.datatype.value.endswith("#string") else f"^^{term.datatype.value}"
    return Term("literal", term.value, term.language or datatype)
