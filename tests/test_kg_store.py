"""Files of triples become a store, or are named with the line that is broken."""

import bz2
import gzip

import pytest

from aftershock.kg.store import load_triples
from test_kg import dirty_triples


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
