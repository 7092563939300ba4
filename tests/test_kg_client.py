"""Requests of a client, turns at a service, and the embedded endpoint; faults are in test_kg_faults."""

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator

import pyoxigraph
import pytest

from aftershock.kg.answers import BannedError, EndpointError, QueryTooLargeError
from aftershock.kg.client import Client
from aftershock.kg.endpoint import serve
from aftershock.kg.gate import Gate, gate_file
from aftershock.kg.graph import Term
from aftershock.kg.pages import fetch
from aftershock.kg.queries import facts
from aftershock.kg.source import connect
from aftershock.project import version
from clocks import Clock
from faulty import QUERY, FaultyEndpoint, client_of, no_sleep
from graphs import WORLD, store_of, triple

PUBLIC = "https://query.wikidata.org/sparql"


def test_requests_are_posted_forms_with_prefixes_and_a_contact(endpoint: FaultyEndpoint) -> None:
    rows = Client(endpoint.url, WORLD, contact="me@example.org").select(QUERY)
    assert (Term("uri", WORLD.iri("E1")), Term("literal", "1970", None)) in rows
    assert len(set(rows)) == len(rows) > 5
    assert endpoint.asked == [WORLD.prefixes + QUERY]
    (head,) = endpoint.heads
    assert head.startswith("POST /sparql HTTP/1.1")
    assert f"User-Agent: Aftershock/{version()} (me@example.org)".lower() in head.lower()
    assert "Accept: application/sparql-results+json".lower() in head.lower()
    assert "Content-Type: application/x-www-form-urlencoded".lower() in head.lower()


@pytest.mark.parametrize(
    ("address", "contact", "message"),
    [
        *((PUBLIC, contact, "set `contact` to your mail or web address") for contact in (None, "", "me")),
        *((PUBLIC, contact, "contact .* cannot be sent; write it in plain ASCII on one line")
          for contact in ("me@example.org\nX: y", "m\u00fc@example.org")),
        ("file:///etc/passwd", "me@example.org", "'file:///etc/passwd' is no http address"),
    ],
)  # fmt: skip
def test_what_no_client_is_made_for(address: str, contact: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Client(address, WORLD, contact)


@pytest.mark.parametrize("fault", ["500 out of time", "lost rows"])
@pytest.mark.parametrize("counting", [True, False])
def test_what_cannot_be_cut_any_smaller_is_an_error(endpoint, fault, counting):
    endpoint.script = lambda query: fault if counting or "COUNT" not in query else None
    short = fault == "lost rows" and not counting
    said = "it counts [0-9]+ solutions but sent [0-9]+ .*cut off" if short else None
    with pytest.raises(QueryTooLargeError, match=said):
        fetch(client_of(endpoint), facts("R1"), by=("s",))


def at_the_same_time(clients: Iterable[Client]) -> None:
    """Let each client ask in a thread of its own."""
    threads = [threading.Thread(target=client.select, args=(QUERY,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_requests_keep_their_distance_and_pauses_are_for_all(tmp_path) -> None:
    clock = Clock()
    one, other = (Gate(tmp_path / "gate", clock.sleep, clock=clock.time) for _ in range(2))
    starts = []
    for gate, pause in ((one, 0), (other, 40), (one, 0), (other, 0)):
        with gate.turn() as turn:
            starts.append(clock.now)
            turn.close(pause)
    assert starts == [1000, 1002, 1042, 1044]


def test_a_long_pause_ends_all_runs_with_a_message(endpoint: FaultyEndpoint, tmp_path) -> None:
    gate = Gate(tmp_path / "gate", no_sleep)
    endpoint.script = lambda query: "banned"
    with pytest.raises(BannedError, match="this client is banned"):
        Client(endpoint.url, WORLD, gate=gate).select(QUERY)
    message = "left alone until 2030-01-01 .*run again after.*which can be deleted"
    with pytest.raises(EndpointError, match=message):
        Client(endpoint.url, WORLD, gate=gate).select(QUERY)
    assert len(endpoint.asked) == 1


def test_one_request_at_a_time_for_all_threads(endpoint: FaultyEndpoint, tmp_path) -> None:
    at_once, most = [], []

    def script(query: str) -> None:
        at_once.append(query)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()

    endpoint.script = script
    at_the_same_time(Client(endpoint.url, WORLD, gate=Gate(tmp_path / "gate", spacing=0.0)) for _ in range(6))
    assert most == [1] * 6


def test_one_request_at_a_time_for_all_processes(python, tmp_path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from aftershock.kg.gate import Gate
        asking = Path({str(tmp_path)!r}) / "asking"
        for _ in range(20):
            with Gate(asking.parent / "gate", spacing=0.0).turn():
                asking.touch(exist_ok=False)
                time.sleep(0.005)
                asking.unlink()
    """
    processes = [python(code) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_a_throttled_miner_stops_the_other(endpoint: FaultyEndpoint, tmp_path) -> None:
    clock = Clock()
    sent = []

    def script(query: str) -> str | None:
        sent.append(clock.now)
        return "429 in seconds" if len(sent) == 1 else None

    endpoint.script = script
    gates = (Gate(tmp_path / "gate", clock.sleep, clock=clock.time) for _ in range(2))
    at_the_same_time(Client(endpoint.url, WORLD, gate=gate) for gate in gates)
    assert sent[0] == 1000
    assert all(start >= 1007 for start in sent[1:])
    assert len(sent) == 3


def test_a_broken_or_unwritable_gate(tmp_path, caplog) -> None:
    clock = Clock()
    (tmp_path / "gate").write_text("{oops")
    with Gate(tmp_path / "gate", clock.sleep, clock=clock.time).turn():
        assert clock.now == 1002
    assert "written anew" in caplog.text
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match="take turns: free some space, or set XDG_CACHE_HOME"),
        Gate(tmp_path / "file" / "gate", clock.sleep).turn(),
    ):
        pass


def test_every_service_has_one_gate(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one = gate_file("https://query.example.org/sparql")
    assert one.parent.parent.parent == tmp_path
    assert one == gate_file("https://Query.example.org/other")
    assert one != gate_file("https://query.example.com/sparql")
    client = Client("https://query.example.org/sparql", WORLD, "me@example.org")
    assert client.gate.path == one
    assert Client("http://127.0.0.1:1/sparql", WORLD).gate != client.gate


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(store_of([triple("E1", "R1", "E2")])) as address:
        yield address


def http(url: str, data: bytes | None = None, kind: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url, data, {"Content-Type": kind} if data is not None else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_endpoint_answers_all_three_kinds_of_request(url: str) -> None:
    query = WORLD.prefixes + QUERY
    form = urllib.parse.urlencode({"query": query})
    answers = [
        http(f"{url}?{form}"),
        http(url, form.encode(), "application/x-www-form-urlencoded"),
        http(url, query.encode(), "application/sparql-query; charset=utf-8"),
    ]
    assert len(set(answers)) == 1
    status, body = answers[0]
    assert status == 200
    assert json.loads(body)["results"]["bindings"][0]["o"] == {"type": "uri", "value": WORLD.iri("E2")}


@pytest.mark.parametrize(
    ("path", "data", "kind", "status", "message"),
    [
        ("", b"SELECT nonsense", "application/sparql-query", 400, "malformed query"),
        ("", b"CONSTRUCT WHERE {?s ?p ?o}", "application/sparql-query", 400, "SELECT and ASK"),
        ("", b"INSERT DATA {<a:a> <a:a> <a:a>}", "application/sparql-query", 400, "malformed query"),
        ("", b"update=x", "application/x-www-form-urlencoded", 400, "one query is needed"),
        ("", b"x", "text/plain", 415, "text/plain"),
        ("/elsewhere", b"ASK {}", "application/sparql-query", 404, "/sparql"),
    ],
)
def test_endpoint_says_what_is_wrong(url, path, data, kind, status, message) -> None:
    found, body = http(url.removesuffix("/sparql") + (path or "/sparql"), data, kind)
    assert found == status
    assert message in body


def test_endpoint_ends_with_its_block_and_long_answers_with_their_time() -> None:
    store = store_of(f'<a:{i}> <a:p> "{i}" .\n' for i in range(300))
    with serve(store, seconds=0.2) as url, pytest.raises(QueryTooLargeError, match="took longer than 0.2 s"):
        Client(url, WORLD).select("SELECT * WHERE { ?a <a:p> ?b . ?c <a:p> ?d . ?e <a:p> ?f }")
    with pytest.raises(EndpointError, match="5 attempts: ConnectionRefusedError.*Check that it is up"):
        Client(url, WORLD, sleep=no_sleep).select(QUERY)


def test_store_is_opened_read_only_and_a_wrong_folder_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="is no store .* delete it and run again"), serve(tmp_path / "none"):
        pass
    pyoxigraph.Store(str(tmp_path / "store")).flush()
    source = {"namespace": "world"}
    with connect(source, tmp_path / "store") as one, connect(source, tmp_path / "store") as other:
        assert one.client.select(QUERY) == other.client.select(QUERY) == []
