"""Blocks of whole lines from a plain, gzip or bzip2 file, in memory that does not grow with the file."""

import bz2
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from aftershock.text_files import LONGEST_MARK, encoding_of

READ = 1 << 18  # bytes read from the file at once
DECODED = 4 << 20  # most bytes of one decompressed piece
LONGEST = 64 << 20  # bytes of a line; a longer one is not text

GZIP = 31  # zlib's number for a gzip header and trailer, whose length and CRC it checks


def read_blocks(path: str | os.PathLike) -> Iterator[bytes]:
    """Yield the lines of a .nt, .nt.gz or .nt.bz2 file, many in one piece, each with its line break.

    Raises ValueError naming the file and the byte position when it is broken, ends early or has no lines.
    """
    path = Path(path)
    decode = next((DECODERS[ending] for ending in DECODERS if path.name.endswith(ending)), None)
    if decode is None:
        raise ValueError(f"{path} is not named {', '.join(DECODERS)}; give an N-Triples file")
    with open(path, "rb") as file:
        carry: list[bytes] = []
        carried = 0
        pieces = _ahead(_unmarked(decode(file), path))
        while True:
            try:
                data = next(pieces, None)
            except (OSError, EOFError, zlib.error) as error:
                raise ValueError(
                    f"{path}, at byte {file.tell()} or shortly before: {error}. The compressed file is "
                    "broken or ends early; get a whole copy "
                    f"({decode.__name__.strip('_')} -t {path.name} tests one)"
                ) from error
            if data is None:
                break
            cut = data.rfind(b"\n") + 1
            if cut:
                yield b"".join((*carry, memoryview(data)[:cut]))
                carry, carried = [], 0
            carry.append(data[cut:])
            carried += len(carry[-1])
            if carried > LONGEST:
                raise ValueError(f"{path} has a line of more than {LONGEST} bytes; give an N-Triples file")
        rest = b"".join(carry)
        if rest:
            yield rest + b"\n"


def _ahead(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the given pieces, preparing each while the one before is used: decompression releases the GIL."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield piece


def _unmarked(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """Yield the pieces without a UTF-8 byte-order mark; ValueError for another encoding's mark."""
    start = b""
    while len(start) < LONGEST_MARK and (piece := next(pieces, None)) is not None:
        start += piece
    encoding, skipped = encoding_of(start)
    if encoding != "utf-8":
        raise ValueError(f"{path} is {encoding.upper()}; save it as UTF-8")
    yield start[skipped:]
    yield from pieces


def _cat(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of a plain file."""
    while data := file.read(DECODED):
        yield data


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of all members of a gzip file; zeros between and after them are skipped."""
    data = file.read(READ)
    while data:
        decoder = zlib.decompressobj(GZIP)
        while not decoder.eof:
            piece = decoder.decompress(data, DECODED)
            yield piece
            data = decoder.unconsumed_tail
            if not (data or decoder.eof or len(piece) == DECODED):  # a full piece may not be the last
                data = _more(file)
        data = decoder.unused_data.lstrip(b"\0")
        while not data and (more := file.read(READ)):
            data = more.lstrip(b"\0")


def _bzip2(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of all streams of a bzip2 file."""
    data = file.read(READ)
    while data:
        decoder = bz2.BZ2Decompressor()
        while not decoder.eof:
            yield decoder.decompress(data, DECODED)
            data = _more(file) if decoder.needs_input and not decoder.eof else b""
        data = decoder.unused_data or file.read(READ)


def _more(file: BinaryIO) -> bytes:
    """The next bytes of a file; an error where it has none left."""
    data = file.read(READ)
    if not data:
        raise EOFError("compressed data ends before its end is marked")
    return data


DECODERS: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {
    ".nt": _cat,
    ".nt.gz": _gzip,
    ".nt.bz2": _bzip2,
}
