"""Readers of hand-written text files, whatever program saved them: YAML, JSON, sheets, lines of text.

Files are UTF-8, with or without a byte-order mark, or UTF-16 or UTF-32 with one, as spreadsheets save
"Unicode text"; they may be packed by gzip. Anything else is a ValueError that names the file and the row.
Files that only this project writes are not read here.
"""

import codecs
import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte-order marks and their encodings."""
LONGEST_MARK = max(len(mark) for mark, _ in MARKS)
QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)
GZIP = b"\x1f\x8b"
SHOWN = 20  # characters before a byte that cannot be read

csv.field_size_limit(sys.maxsize)  # a cell may be a whole document


def encoding_of(start: bytes) -> tuple[str, int]:
    """Return the encoding of a file that begins with `start`, and the length of its byte-order mark."""
    return next(((name, len(mark)) for mark, name in MARKS if start.startswith(mark)), ("utf-8", 0))


def decode(content: bytes, name: str | os.PathLike) -> str:
    """Return the text of a file, without its byte-order mark; ValueError names the file and the line."""
    encoding, skipped = encoding_of(content)
    try:
        return content[skipped:].decode(encoding)
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding)
        line = before.rpartition("\n")[2]
        found = f"byte 0x{error.object[error.start]:02x} after {line[-SHOWN:]!r}"
        raise ValueError(
            f"{os.fspath(name)} row {before.count(chr(10)) + 1}: {found} is not {encoding.upper()}; save the "
            "file as UTF-8"
        ) from None


def read_bytes(path: str | os.PathLike) -> bytes:
    """Return what a file holds, unpacked where gzip packed it; ValueError where it cannot be unpacked."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{os.fspath(path)} is no file that can be read: {error.strerror}") from error
    if not content.startswith(GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{os.fspath(path)} cannot be unpacked: {error}; fetch it anew") from error


def read_text(path: str | os.PathLike) -> str:
    """Return the text of a file."""
    return decode(read_bytes(path), path)


def read_json(path: str | os.PathLike) -> Any:
    """Return the contents of a JSON file; ValueError names the file and the place of what is not JSON."""
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes, path: str | os.PathLike) -> Any:
    """Return what the bytes of a JSON file hold."""
    text = decode(content, path)
    try:
        return loads(text)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not JSON: {error}") from error


def loads(text: str | bytes) -> Any:
    """Return what a text in JSON holds; ValueError where it is none, or lists lie too deep in lists."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error


# --- YAML ---------------------------------------------------------------------------------------------------
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Parser):
    """libyaml's parser where available, which is ten times as fast."""


def read_yaml(path: str | os.PathLike) -> Any:
    """Return the contents of a YAML file; ValueError names what is no YAML, or a key that stands twice."""
    loader = _Loader(read_text(path))
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if repeated := list(_repeated(loader, node)):
            raise ValueError("\n  ".join(f"{os.fspath(path)}: {line}" for line in repeated))
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        said = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise ValueError(f"{os.fspath(path)} is not YAML: {said}") from error
    finally:
        loader.dispose()


def read_keys(path: str | os.PathLike) -> dict[str, Any]:
    """Return the keys of a YAML file, none of an empty one; ValueError where it holds something else."""
    found = read_yaml(path)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{os.fspath(path)}: expected keys and values, found {found!r}"[:300])
    return found


def _repeated(loader: _Loader, top: yaml.Node) -> Iterator[str]:
    """Yield a line for each key that occurs twice in one mapping, of which YAML's readers drop the first."""
    waiting: list[tuple[yaml.Node, tuple[str, ...]]] = [(top, ())]
    seen = set()
    while waiting:
        node, place = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(part, (*place, str(number))) for number, part in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[Any, int] = {}
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else None
                where, line = (*place, str(name)), key.start_mark.line + 1
                waiting.append((value, where))
                if name is None or key.tag.endswith(":merge"):
                    continue
                first = lines.setdefault(loader.construct_object(key), line)
                if first != line:
                    yield f"{'.'.join(where)} stands twice, in lines {first} and {line}; write one of them"


# --- sheets -------------------------------------------------------------------------------------------------
def read_cells(content: bytes, name: str | os.PathLike) -> list[list[str]]:
    """Return the rows of a TSV file.

    A cell in quotes, with those inside it doubled, is how spreadsheets write one with a comma or a quote in
    it, and is read without them. `sheet_cell` writes cells that begin with a quote the same way.
    """
    handle = io.StringIO(decode(content, name), newline="")
    rows = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
    return [[_unquoted(cell) for cell in row] for row in rows]


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if QUOTED.fullmatch(cell) else cell


def sheet_cell(text: str) -> str:
    """Return a text as a cell of a TSV file from which `read_cells` reads it again."""
    return '"' + text.replace('"', '""') + '"' if text.startswith('"') else text


# --- lines --------------------------------------------------------------------------------------------------
def lines_as_utf8(file: BinaryIO, name: str | os.PathLike) -> Iterator[bytes]:
    """Yield the lines of a file as UTF-8 with their line breaks, without its byte-order mark.

    Lines of a UTF-8 file come as they are. ValueError names a line of another encoding that is broken.
    """
    start = file.read(LONGEST_MARK)
    encoding, skipped = encoding_of(start)
    rest = _Rest(start[skipped:], file)
    if encoding == "utf-8":
        yield from io.BufferedReader(rest)
        return
    with io.TextIOWrapper(io.BufferedReader(rest), encoding=encoding, newline="\n") as text:
        whole = 0
        try:
            for line in text:
                yield line.encode()
                whole += 1
        except UnicodeError as error:
            said = f"{os.fspath(name)} line {whole + 1} cannot be read: {error}"
            raise ValueError(f"{said}; save the file as UTF-8") from None


class _Rest(io.RawIOBase):
    """A binary file whose first bytes have been read."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self.start, self.file = start, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.start[: len(buffer)] or self.file.read(len(buffer))
        self.start = self.start[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class Unmarked:
    """A UTF-8 file to be read in pieces, without its byte-order mark; ValueError for other encodings."""

    def __init__(self, file: BinaryIO, name: str | os.PathLike) -> None:
        start = file.read(LONGEST_MARK)
        encoding, skipped = encoding_of(start)
        if encoding != "utf-8":
            raise ValueError(f"{os.fspath(name)} is {encoding.upper()}; save it as UTF-8")
        self.file = io.BufferedReader(_Rest(start[skipped:], file))

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        return self.file.read(size)
