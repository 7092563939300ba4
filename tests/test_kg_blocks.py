"""Files of triples: whole lines of any compression, and a store of them; half a file is never a whole one."""

import bz2
import gzip

import pytest

from aftershock.kg import blocks
from aftershock.kg.blocks import read_blocks
from aftershock.kg.store import load_triples
from test_kg import dirty_triples
from tiers import repeated

TEXT = b"".join(b"line %d %s\n" % (number, b"x" * (number % 700)) for number in range(3000))
PACKED = {
    "plain.nt": TEXT,
    "one.nt.gz": gzip.compress(TEXT),
    "members.nt.gz": gzip.compress(TEXT[:5000]) + bytes(9) + gzip.compress(b"") + gzip.compress(TEXT[5000:]),
    "padded.nt.gz": gzip.compress(TEXT) + bytes(5000),
    "dense.nt.gz": gzip.compress(b"y" * 3_000_000 + b"\n" + TEXT),
    "one.nt.bz2": bz2.compress(TEXT),
    "streams.nt.bz2": bz2.compress(TEXT[:5000]) + bz2.compress(TEXT[5000:]),
}


@pytest.mark.parametrize(
    "sizes", [(1 << 18, 4 << 20), (7, 100), repeated((100, 1000)), repeated((5000, 333))]
)
@pytest.mark.parametrize("name", PACKED)
def test_blocks_are_whole_lines_of_the_text(tmp_path, monkeypatch, name: str, sizes: tuple[int, int]) -> None:
    monkeypatch.setattr(blocks, "READ", sizes[0])
    monkeypatch.setattr(blocks, "DECODED", sizes[1])
    (tmp_path / name).write_bytes(PACKED[name])
    found = list(read_blocks(tmp_path / name))
    assert all(block.endswith(b"\n") for block in found)
    expected = b"y" * 3_000_000 + b"\n" + TEXT if name.startswith("dense") else TEXT
    assert b"".join(found) == expected


def test_a_last_line_without_a_break_gets_one(tmp_path) -> None:
    (tmp_path / "a.nt").write_bytes(b"one\ntwo")
    assert b"".join(read_blocks(tmp_path / "a.nt")) == b"one\ntwo\n"


SPOILED = {
    "cut.nt.gz": (gzip.compress(TEXT)[:-3], "cut.nt.gz, at byte {size} .*gzip -t cut.nt.gz"),
    "half.nt.gz": (gzip.compress(TEXT)[:900], "at byte {size} .*ends early"),
    "crc.nt.gz": (gzip.compress(TEXT)[:-8] + bytes(4) + gzip.compress(TEXT)[-4:], "incorrect data check"),
    "length.nt.gz": (gzip.compress(TEXT)[:-1] + b"\xff", "incorrect length check"),
    "flipped.nt.gz": (
        gzip.compress(TEXT)[:60] + b"\xff\xff\xff" + gzip.compress(TEXT)[63:],
        "flipped.nt.gz, at byte",
    ),
    "second.nt.gz": (gzip.compress(TEXT) + b"no gzip", "incorrect header check"),
    "plain.nt.gz": (TEXT, "incorrect header check"),
    "cut.nt.bz2": (bz2.compress(TEXT)[:-3], "cut.nt.bz2, at byte {size} .*bzip2 -t cut.nt.bz2"),
    "flipped.nt.bz2": (bz2.compress(TEXT)[:60] + b"\xff\xff" + bz2.compress(TEXT)[62:], "Invalid data"),
    "plain.nt.bz2": (TEXT, "Invalid data stream"),
    "graph.ttl": (TEXT, r"is not named .nt, .nt.gz, .nt.bz2; give an N-Triples file"),
    "wide.nt": (b"x" * 5000, "has a line of more than 4096 bytes"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_broken_file_is_named_with_the_byte(tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.setattr(blocks, "LONGEST", 4096)
    data, message = SPOILED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message.format(size=len(data))):
        list(read_blocks(tmp_path / name))


@pytest.mark.parametrize("name", ["graph.nt", "graph.nt.gz", "graph.nt.bz2"])
def test_a_file_becomes_a_store(tmp_path, name: str) -> None:
    text = dirty_triples().encode()
    pack = {"nt": bytes, "gz": gzip.compress, "bz2": bz2.compress}[name.rpartition(".")[2]]
    (tmp_path / name).write_bytes(pack(text))
    assert load_triples(tmp_path / name, tmp_path / "store") == len(text.splitlines())


BROKEN = {
    "cut.nt": (
        lambda text: text[: text.index(b"\n", 500) - 7],
        "cut.nt, line [0-9]+: .*ends early; get a whole copy",
    ),
    "cut.nt.gz": (
        lambda text: gzip.compress(text)[:-30],
        "cut.nt.gz, after line [0-9]+: .*gzip -t cut.nt.gz",
    ),
    "flipped.nt.gz": (
        lambda text: gzip.compress(text)[:60] + b"\xff\xff" + gzip.compress(text)[62:],
        "after line 0",
    ),
    "plain.nt.gz": (lambda text: text, "Not a gzipped file"),
    "cut.nt.bz2": (lambda text: bz2.compress(text)[:-30], "after line [0-9]+: .*bzip2 -t cut.nt.bz2"),
    "plain.nt.bz2": (lambda text: text, "Invalid data stream"),
    "table.nt": (lambda text: text + b"subject\tpredicate\n", "table.nt, line 1[0-9]+: "),
    "latin.nt": (lambda text: text.replace(b'"1970"', b'"\xe4"'), "latin.nt, line [0-9]+: .*UTF-8"),
    "empty.nt": (lambda text: b"", "holds no triple"),
    "graph.ttl": (lambda text: text, "is not named .nt or .nt.gz or .nt.bz2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_the_line(tmp_path, name: str) -> None:
    spoil, message = BROKEN[name]
    (tmp_path / name).write_bytes(spoil(dirty_triples().encode()))
    with pytest.raises(ValueError, match=message):
        load_triples(tmp_path / name, tmp_path / "store")
