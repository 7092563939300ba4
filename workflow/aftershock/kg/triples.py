"""N-Triples of graphs that a run makes."""

import gzip
import os
from collections.abc import Sequence

from aftershock.output import whole_file

LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
WIKIBASE = "http://wikiba.se/ontology#"

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def iri(text: str) -> str:
    """`text` as an N-Triples IRI."""
    return f"<{text}>"


def literal(text: str, language: str | None = None, datatype: str | None = None) -> str:
    """`text` as an N-Triples literal."""
    suffix = f"@{language}" if language else f"^^<{datatype}>" if datatype else ""
    return f'"{text.translate(ESCAPES)}"{suffix}'


def write_triples(lines: Sequence[str], path: str | os.PathLike) -> None:
    """Write N-Triples lines as gzip whose bytes depend on the lines only."""
    with whole_file(path) as part:
        part.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
