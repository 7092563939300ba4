"""An on-disk store: made from an RDF file, opened for reading."""

import bz2
import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyoxigraph

from aftershock.text_files import Unmarked

OPENERS: dict[str, Callable[..., Any]] = {".nt": open, ".nt.gz": gzip.open, ".nt.bz2": bz2.open}
TESTERS = {".nt.gz": "gzip", ".nt.bz2": "bzip2"}


class LineCounter:
    """A binary file reader that counts lines."""

    def __init__(self, file: BinaryIO | Unmarked) -> None:
        self.file = file
        self.lines = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file."""
        data = self.file.read(size)
        self.lines += data.count(b"\n")
        return data


def load_triples(source: str | os.PathLike, folder: str | os.PathLike) -> int:
    """Number of triples loaded from an N-Triples file (.nt, .nt.gz, .nt.bz2) into a new store in `folder`.

    Raises ValueError naming the file and the line when the file is broken or ends early.
    """
    source = Path(source)
    ending = next((ending for ending in OPENERS if source.name.endswith(ending)), None)
    if ending is None:
        raise ValueError(f"{source} is not named {' or '.join(OPENERS)}; give an N-Triples file")
    store = pyoxigraph.Store(str(folder))
    with OPENERS[ending](source, "rb") as file:
        counter: Any = LineCounter(file)  # only its `read` is used
        try:
            unmarked: Any = Unmarked(counter, source)
            store.bulk_load(input=unmarked, format=pyoxigraph.RdfFormat.N_TRIPLES)
        except SyntaxError as error:
            raise ValueError(
                f"{source}, line {error.lineno}: {error.msg}. The file is broken or ends early; "
                "get a whole copy, one N-Triples statement per line"
            ) from error
        except (EOFError, zlib.error, OSError) as error:
            if ending not in TESTERS:
                raise
            raise ValueError(
                f"{source}, after line {counter.lines}: {error}. The compressed file is broken or ends "
                f"early; get a whole copy ({TESTERS[ending]} -t {source.name} tests one)"
            ) from error
    store.flush()
    if not len(store):
        raise ValueError(f"{source} holds no triple; give an N-Triples file with facts and labels")
    return len(store)


def open_store(folder: str | os.PathLike) -> pyoxigraph.Store:
    """The store in `folder`, read-only, so that any number of jobs can open it."""
    try:
        return pyoxigraph.Store.read_only(os.fspath(folder))
    except OSError as error:
        raise ValueError(f"{folder} is no store ({error}); delete it and run again") from error
