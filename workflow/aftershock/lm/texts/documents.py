"""Reader of documents in text files, and a random sample of them in bounded memory.

A file is .txt (a document a line), .jsonl (a JSON object a line) or .parquet; the first two may be packed, as
.txt.gz and .jsonl.gz. `lm.files.fetch_text` makes such files of a data set of the Hub.
"""

import gzip
import hashlib
import logging
import random
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from aftershock.text_files import lines_as_utf8, loads

log = logging.getLogger(__name__)

KINDS = (".txt", ".jsonl", ".parquet")


def sample_documents(files: Sequence[str | Path], column: str, limit: int, seed: int) -> list[str]:
    """Up to `limit` documents drawn without repeat from all `files` together, in random order.

    `column` is the text's in .jsonl and .parquet. Documents that are null, empty or of white space alone are
    dropped after the draw, whatever the format, and counted in the log.
    Every file is gone through twice, once to count and once to take what was drawn; of a parquet file only
    its sizes and the row groups that hold some of it are read. ValueError names a file or line that does not
    hold text.
    """
    paths = [Path(file) for file in files]
    sizes = [_count(path) for path in paths]
    drawn = random.Random(seed).sample(range(sum(sizes)), min(limit, sum(sizes)))
    order = sorted(range(len(drawn)), key=drawn.__getitem__)
    found: list[str] = [""] * len(drawn)
    start = 0
    for path, size in zip(paths, sizes, strict=True):
        first, last = (bisect_left(order, bound, key=drawn.__getitem__) for bound in (start, start + size))
        mine = order[first:last]
        rows = _take(path, column, [drawn[i] - start for i in mine])
        for i, text in zip(mine, rows, strict=True):
            found[i] = text.encode("utf-8", "replace").decode(
                "utf-8"
            )  # a JSON text may hold half a character
        start += size
    kept = [text for text in found if not text.isspace() and text]
    if len(kept) < len(found):
        log.info("documents left out, as they have no text: %d of %d", len(found) - len(kept), len(found))
    if not kept:
        raise ValueError(f"{', '.join(map(str, paths))}: no document has any text")
    return kept


def sha256_of_documents(documents: Sequence[str]) -> str:
    """Hash of documents in their order."""
    digest = hashlib.sha256()
    for document in documents:
        text = document.encode()
        digest.update(len(text).to_bytes(8, "big") + text)
    return digest.hexdigest()


def text_files(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """The text files that are meant: those given, and those below a folder given, in order of name.

    ValueError when a folder holds none.
    """
    found = []
    for path in [Path(given)] if isinstance(given, str | Path) else map(Path, given):
        files = sorted(p for p in path.rglob("*") if kind_of(p) in KINDS) if path.is_dir() else [path]
        if not files:
            raise ValueError(f"{path} holds no text; delete it and run again: rule fetch_text makes it")
        found += files
    return found


def kind_of(path: Path) -> str:
    """The file name ending that decides how a file is read, one of KINDS where possible."""
    return Path(path.name.removesuffix(".gz")).suffix


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file; ValueError names one that cannot be unpacked."""
    with cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            yield from lines_as_utf8(file, path)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} cannot be read: {error}; fetch it anew") from error


def _count(path: Path) -> int:
    if not path.is_file():
        raise ValueError(f"there is no text file {path}")
    if kind_of(path) not in KINDS:
        raise ValueError(f"{path}: text is read from {', '.join(KINDS)}, and .gz of the first two")
    if path.suffix == ".parquet":
        return _parquet(path).metadata.num_rows
    return sum(1 for _ in _lines(path))


def _take(path: Path, column: str, wanted: Sequence[int]) -> Iterator[str]:
    """The documents with these ascending numbers."""
    if path.suffix == ".parquet":
        yield from _take_rows(path, column, wanted)
        return
    numbers = iter(wanted)
    number = next(numbers, None)
    if number is None:
        return
    for place, line in enumerate(_lines(path)):
        if place == number:
            yield _text(path, column, place, line)
            if (number := next(numbers, None)) is None:
                return


def _text(path: Path, column: str, place: int, line: bytes) -> str:
    where = f"{path} line {place + 1}"
    try:
        if kind_of(path) == ".txt":
            return line.decode("utf-8").rstrip("\r\n")
        text = loads(line)[column] if line.strip() else ""
    except KeyError as error:
        raise ValueError(f"{where} has no {column!r}; name the text's `column`") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    if text is None or text != text:  # null, or pandas' not-a-number: as in parquet, a document without text
        return ""
    if not isinstance(text, str):
        raise ValueError(f"{where}: {column!r} is {type(text).__name__}, not text")
    return text


def _take_rows(path: Path, column: str, wanted: Sequence[int]) -> Iterator[str]:
    """The documents with these ascending numbers in a parquet file, one row group at a time."""
    file = _parquet(path)
    if column not in file.schema_arrow.names:
        known = ", ".join(file.schema_arrow.names)
        raise ValueError(f"{path} has no column {column!r}; name the text's `column`: {known}")
    kind = file.schema_arrow.field(column).type
    if not _is_text(kind):
        raise ValueError(f"{path}: column {column!r} holds {kind}, not text")
    start = 0
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        mine = wanted[bisect_left(wanted, start) : bisect_left(wanted, start + size)]
        if mine:
            with _naming(path):
                texts = file.read_row_group(group, columns=[column]).column(column)
                found = [texts[number - start].as_py() or "" for number in mine]
            yield from found
        start += size


def _is_text(kind: pa.DataType) -> bool:
    """True if a column of this type holds text, in any of Arrow's layouts, or only missing values."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _is_text(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def _parquet(path: Path) -> pq.ParquetFile:
    with _naming(path):
        return pq.ParquetFile(path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what is wrong with a parquet file into a ValueError that names it."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{path} is not a parquet file that can be read: {error}; fetch it anew") from error
