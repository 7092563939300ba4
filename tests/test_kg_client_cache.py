"""Answers on disk: what several miners share, and what is left when one is killed."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aftershock.kg.answers import EndpointError
from aftershock.kg.cache import Cache, CacheError
from aftershock.kg.client import Client
from aftershock.kg.source import connect
from faulty import QUERY, FaultyEndpoint, client_of, mine, small_graph
from graphs import WORLD

MINER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from types import SimpleNamespace
from faulty import client_of, mine
print(json.dumps(mine(client_of(SimpleNamespace(url=sys.argv[2], hasty=False), Path(sys.argv[3])))))
"""


@pytest.fixture
def tables(endpoint: FaultyEndpoint) -> dict[str, list[tuple]]:
    found = mine(Client(endpoint.url, WORLD))
    endpoint.asked.clear()
    return found


def as_json(tables: dict[str, list[tuple]]) -> dict:
    return json.loads(json.dumps(tables))


def miner(endpoint: FaultyEndpoint, folder: Path) -> subprocess.Popen:
    """Another process that mines the small graph."""
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-B", "-c", MINER, str(here), endpoint.url, str(folder)],
        env={**os.environ, "PYTHONPATH": str(here.parent / "workflow")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- the cache ------------------------------------------------------------------------------------------
def test_what_was_answered_is_not_asked_again(endpoint: FaultyEndpoint, tables, tmp_path) -> None:
    first = client_of(endpoint, tmp_path)
    assert mine(first) == tables
    assert len(set(endpoint.asked)) == len(endpoint.asked) == first.requests
    second = client_of(endpoint, tmp_path)
    assert mine(second) == tables
    assert second.requests == 0
    assert second.cached == first.requests + first.cached


def test_the_journal_says_what_was_asked_and_when(endpoint: FaultyEndpoint, tmp_path) -> None:
    cache = Cache(tmp_path, clock=lambda: 0.0)
    client = Client(endpoint.url, WORLD, cache=cache)
    rows = client.select(QUERY)
    client.select("SELECT ?s WHERE { ?s wdt:R77 ?o }")
    entries = sorted(cache.journal(), key=lambda entry: entry["rows"])
    assert [entry["rows"] for entry in entries] == [0, len(rows)]
    assert [entry["empty"] for entry in entries] == [True, False]
    assert entries[1]["query"] == WORLD.prefixes + QUERY
    assert (entries[1]["endpoint"], entries[1]["asked"]) == (endpoint.url, "1970-01-01T00:00:00Z")


def other_file(path: Path) -> bytes:
    return next(other for other in path.parents[1].glob("??/*.json.gz") if other != path).read_bytes()


def replaced(path: Path, old: bytes, new: bytes) -> bytes:
    return gzip.compress(gzip.decompress(path.read_bytes()).replace(old, new))


SPOILED = {
    "end": lambda path: path.read_bytes()[:-9],
    "all": lambda path: b"",
    "rows": lambda path: replaced(path, b"entity/E5", b"entity/E6"),
    "head": lambda path: replaced(path, b'"rows": ', b'"rows": 1'),
    "place": other_file,
}


@pytest.mark.parametrize("part", SPOILED)
def test_a_changed_file_is_asked_for_again(endpoint, tables, tmp_path, caplog, part) -> None:
    mine(client_of(endpoint, tmp_path))
    largest = max(tmp_path.glob("??/*.json.gz"), key=lambda path: path.stat().st_size)
    good = gzip.decompress(largest.read_bytes()).partition(b"\n")[2].partition(b"\n")[2]
    largest.write_bytes(SPOILED[part](largest))
    resumed = client_of(endpoint, tmp_path)
    assert mine(resumed) == tables
    assert resumed.requests == 1
    assert f"{largest} " in caplog.text
    assert "asked again" in caplog.text
    assert gzip.decompress(largest.read_bytes()).endswith(good)


def test_an_answer_with_another_number_of_rows_than_expected_is_asked_for_again(endpoint, tmp_path) -> None:
    client = client_of(endpoint, tmp_path)
    number = len(client.select(QUERY))
    client.select(QUERY, lambda rows: None if len(rows) == number else "changed")
    assert client.requests == 1
    with pytest.raises(EndpointError, match="changed .the answer is cut off, or the data changed"):
        client.select(QUERY, lambda rows: "changed")
    assert client.requests == 3


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "No space left.*Free some space"), (errno.EACCES, "Make its folder writable")],
)
def test_a_full_disk_leaves_nothing_half_written(endpoint, tables, tmp_path, monkeypatch, code, remedy):
    write, written = Path.write_bytes, []

    def fill(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 6:
            write(path, data[: len(data) // 2])
            raise OSError(code, os.strerror(code), str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(CacheError, match=f"cannot write .*{remedy}, then run again: all answers before"):
        mine(client_of(endpoint, tmp_path))
    assert not list(tmp_path.rglob("*.part"))
    assert len(list(tmp_path.glob("??/*.json.gz"))) == 5
    monkeypatch.undo()
    resumed = client_of(endpoint, tmp_path)
    assert mine(resumed) == tables
    assert len(set(endpoint.asked)) == len(endpoint.asked) - 1  # the one that could not be kept


def test_two_miners_share_the_work(endpoint: FaultyEndpoint, tables, tmp_path) -> None:
    endpoint.script = lambda query: time.sleep(0.02)
    miners = [miner(endpoint, tmp_path) for _ in range(3)]
    for process in miners:
        text, _ = process.communicate(timeout=60)
        assert json.loads(text) == as_json(tables)
    assert len(set(endpoint.asked)) == len(endpoint.asked)


@pytest.mark.thorough  # faults that stop a miner are tried
def test_a_miner_that_is_killed_again_and_again_resumes(endpoint: FaultyEndpoint, tables, tmp_path) -> None:
    endpoint.script = lambda query: time.sleep(0.02)
    kills = 0
    for step in range(1, 30):
        process = miner(endpoint, tmp_path)
        goal = 5 * step
        while process.poll() is None and len(endpoint.asked) < goal:
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        text, _ = process.communicate(timeout=60)
        if process.returncode == 0:
            break
    assert json.loads(text) == as_json(tables)
    assert kills >= 3
    assert len(endpoint.asked) <= len(set(endpoint.asked)) + kills


def test_answers_of_a_service_are_kept_and_those_of_an_own_store_are_not(endpoint, tables, tmp_path) -> None:
    service = {"namespace": "world", "url": endpoint.url, "contact": "me@example.org"}
    for requests in (True, False):
        with connect(service, None, tmp_path / "cache") as source:
            assert mine(source.client) == tables
            assert bool(source.client.requests) == requests
    with connect({"namespace": "world"}, small_graph(), tmp_path / "none") as source:
        assert mine(source.client) == tables
    assert not (tmp_path / "none").exists()
