"""The embedded endpoint: SELECT and ASK over HTTP, for as long as a block runs."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pyoxigraph
import pytest

from aftershock.kg.answers import EndpointError, QueryTooLargeError
from aftershock.kg.client import Client
from aftershock.kg.endpoint import serve
from aftershock.kg.source import connect
from faulty import QUERY, no_sleep
from graphs import WORLD, store_of, triple


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
    store = pyoxigraph.Store()
    store.extend(
        pyoxigraph.Quad(pyoxigraph.NamedNode(f"a:{i}"), pyoxigraph.NamedNode("a:p"), pyoxigraph.Literal(i))
        for i in range(300)
    )
    with serve(store, seconds=0.2) as url, pytest.raises(QueryTooLargeError, match="took longer than 0.2 s"):
        Client(url, WORLD).select("SELECT * WHERE { ?a <a:p> ?b . ?c <a:p> ?d . ?e <a:p> ?f }")
    with pytest.raises(EndpointError, match="ConnectionRefusedError"):
        Client(url, WORLD, sleep=no_sleep).select(QUERY)


def test_store_is_opened_read_only_and_a_wrong_folder_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="is no store .* delete it and run again"), serve(tmp_path / "none"):
        pass
    pyoxigraph.Store(str(tmp_path / "store")).flush()
    source = {"namespace": "world"}
    with connect(source, tmp_path / "store") as one, connect(source, tmp_path / "store") as other:
        assert one.client.select(QUERY) == other.client.select(QUERY) == []
