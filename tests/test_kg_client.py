"""A client that takes no broken answer for data."""

import json
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate

import pytest

from aftershock.kg.answers import EndpointError, QueryTooLargeError
from aftershock.kg.client import Client, PageSize, Patience
from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.graph import GRAPHS, Term
from aftershock.kg.labels import find_labels
from aftershock.kg.pages import count, fetch
from aftershock.kg.queries import facts
from aftershock.project import version

WORLD = GRAPHS["world"]
QUERY = "SELECT ?s ?o WHERE { ?s wdt:R1 ?o }"
ROW = {
    "s": {"type": "uri", "value": WORLD.iri("E1")},
    "o": {"type": "literal", "value": "two", "xml:lang": "en"},
}
GOOD = {"head": {"vars": ["s", "o"]}, "results": {"bindings": [ROW]}}
VERSION = version()
TERMS = [(Term("uri", WORLD.iri("E1")), Term("literal", "two", "en"))]
JSON = "application/sparql-results+json"
JAVA = "SPARQL-QUERY: queryStr=SELECT\njava.util.concurrent.TimeoutException\n\tat com.bigdata.rdf"


def response(body: str, status: str = "200 OK", kind: str = JSON, **headers: str) -> bytes:
    """A whole HTTP response; underscores in the names of headers stand for hyphens."""
    headers = {"Content_Type": kind, "Content_Length": str(len(body.encode())), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", body]).encode()


def unbounded(body: str) -> bytes:
    """A response whose end is the end of the connection, as long streams have it."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nConnection: close\r\n\r\n{body}".encode()


def read_request(connection: socket.socket) -> str:
    """Head and body of a request."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += connection.recv(65536)
    head, _, body = text.partition(b"\r\n\r\n")
    (length,) = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"ength" in line] or [0]
    while len(body) < length:
        body += connection.recv(65536)
    return (head + b"\n\n" + body).decode()


Reply = bytes | Callable[[socket.socket], None]


@contextmanager
def scripted(*replies: Reply) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server that replies so in turn, the last for ever, and what it was sent."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    seen.append(read_request(connection))
                    reply = replies[min(len(seen), len(replies)) - 1]
                    try:
                        reply(connection) if callable(reply) else connection.sendall(reply)
                    except OSError:
                        continue

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/sparql", seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)


def reset(connection: socket.socket) -> None:
    """Drop the connection without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def no_sleep(seconds: float) -> None:
    """Wait for nothing."""


def drip(text: bytes) -> Callable[[socket.socket], None]:
    """Send a byte at a time, for about ten seconds."""

    def send(connection: socket.socket) -> None:
        for byte in text.ljust(200):
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    return send


def ask(url: str, waits: list[float] | None = None, **patience: float) -> list:
    """Return a client's answer to one query; `waits` receives how long it would have waited."""
    sleep = (waits if waits is not None else []).append
    return Client(url, WORLD, patience=Patience(**patience), sleep=sleep).select(QUERY)


# --- requests -------------------------------------------------------------------------------------------


def test_requests_are_posted_forms_with_prefixes_and_a_contact() -> None:
    with scripted(response(json.dumps(GOOD))) as (url, seen):
        assert Client(url, WORLD, contact="me@example.org").select(QUERY) == TERMS
    head, _, body = seen[0].partition("\n\n")
    assert head.startswith("POST /sparql HTTP/1.1")
    assert f"User-Agent: Aftershock/{VERSION} (me@example.org)".lower() in head.lower()
    assert "Accept: application/sparql-results+json".lower() in head.lower()
    assert urllib.parse.parse_qs(body) == {"query": [WORLD.prefixes + QUERY]}


@pytest.mark.parametrize("contact", [None, "", "me"])
def test_public_endpoints_need_a_contact(contact) -> None:
    with pytest.raises(ValueError, match="set `contact` to your mail or web address"):
        Client("https://query.wikidata.org/sparql", WORLD, contact)


def test_an_endpoint_is_an_http_address() -> None:
    with pytest.raises(ValueError, match="'file:///etc/passwd' is no http address"):
        Client("file:///etc/passwd", WORLD, "me@example.org")


# --- broken answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        (response("slow down", "429 Too Many Requests", Retry_After="7"), 7),
        (response("now", "429 Too Many Requests", Retry_After="0"), 1),
        (response("", "503 Service Unavailable", Retry_After="soon"), 2),
        (response("", "502 Bad Gateway"), 2),
        (response("", "504 Gateway Timeout"), 2),
        (response("oops", "500 Internal Server Error"), 2),
        (response("<html>Wikimedia Error</html>", kind="text/html"), 2),
        (response("<sparql/>", kind="application/sparql-results+xml"), 2),
        (response(""), 2),
        (response(json.dumps(GOOD)[:-9]), 2),
        (response("[1]"), 2),
        (response('{"boolean": true, "head": {}}'), 2),
        (response(json.dumps(GOOD).replace('"uri"', '"url"')), 2),
        (response(json.dumps(GOOD).replace('"s": {', '"t": {')), 2),
        (response(json.dumps(GOOD), Content_Length="5000"), 2),
        (unbounded(json.dumps(GOOD)[:60]), 2),
        (reset, 2),
        (b"", 2),
        (b"not http\r\n\r\n", 2),
    ],
)
def test_passing_faults_are_waited_out(fault: Reply, wait: float) -> None:
    waits: list[float] = []
    with scripted(fault, response(json.dumps(GOOD))) as (url, seen):
        assert ask(url, waits) == TERMS
    assert len(seen) == 2
    assert len(waits) == 1
    assert wait * 0.95 - 1 <= waits[0] <= wait * 1.25
    assert waits[0] >= 1


def test_the_time_to_ask_again_can_be_a_date() -> None:
    waits: list[float] = []
    fault = response("", "503 Service Unavailable", Retry_After=formatdate(time.time() + 40))
    with scripted(fault, response(json.dumps(GOOD))) as (url, _):
        assert ask(url, waits) == TERMS
    assert 30 < waits[0] < 50


def test_the_client_gives_up_after_some_attempts_and_says_why() -> None:
    waits: list[float] = []
    message = "no usable answer in 3 attempts.*<html>down.*run again"
    down = response("<html>down</html>", kind="text/html")
    with scripted(down) as (url, seen), pytest.raises(EndpointError, match=message):
        ask(url, waits, attempts=3)
    assert len(seen) == 3
    assert waits == sorted(waits)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (response("x", "302 Found", Location="http://else.where/"), "redirects to 'http://else.where/'"),
        (response("x", "403 Forbidden"), "HTTP 403: 'x'. Refused or banned: check `contact`"),
        (response("x", "404 Not Found"), "HTTP 404.*Check the endpoint's address"),
        (response("You have been banned until 2030", "429 Too Many Requests"), "this client is banned"),
        (response("", "429 Too Many Requests", Retry_After="86400"), "asks to wait 86400 s, more than 300 s"),
    ],
)
def test_lasting_faults_stop_at_once(fault: bytes, message: str) -> None:
    waits: list[float] = []
    with scripted(fault) as (url, seen), pytest.raises(EndpointError, match=message):
        ask(url, waits)
    assert len(seen) == 1
    assert not waits


def test_a_query_that_cannot_be_read_is_shown() -> None:
    message = r"cannot read this query: \"Encountered '}'\"\nPREFIX wd:"
    fault = response("Encountered '}'", "400 Bad Request")
    with scripted(fault) as (url, seen), pytest.raises(ValueError, match=message):
        ask(url)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "fault",
    [
        response(json.dumps(GOOD)[:60] + JAVA),
        unbounded(json.dumps(GOOD)[:60] + JAVA),
        response(JAVA, "500 Internal Server Error", kind="text/plain"),
    ],
)
def test_an_endpoint_out_of_time_is_not_asked_the_same_again(fault: bytes) -> None:
    with scripted(fault) as (url, seen), pytest.raises(QueryTooLargeError, match="ran out of time"):
        ask(url)
    assert len(seen) == 1


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", unbounded('{"head": ')])
def test_dripping_answers_end_with_the_deadline(start: bytes) -> None:
    begun = time.monotonic()
    with (
        scripted(drip(start)) as (url, _),
        pytest.raises(QueryTooLargeError, match="no whole answer within 0.5 s"),
    ):
        ask(url, seconds=0.5)
    assert time.monotonic() - begun < 5


def test_good_json_under_a_wrong_name_is_good() -> None:
    with scripted(response(json.dumps(GOOD), kind="text/plain")) as (url, _):
        assert ask(url) == TERMS


# --- pages ----------------------------------------------------------------------------------------------


def numbers(*rows: int | tuple[int, int]) -> str:
    """The answer to a question about how many, in all or per entity."""
    bindings = []
    for row in rows:
        entity, number = row if isinstance(row, tuple) else (None, row)
        binding = {"s": {"type": "uri", "value": WORLD.iri(f"E{entity}")}} if entity else {}
        bindings.append(binding | {"rows": {"type": "literal", "value": str(number)}})
    return json.dumps({"head": {"vars": list(bindings[0])}, "results": {"bindings": bindings}})


def pairs(*rows: tuple[int, int]) -> str:
    """Facts by entity numbers."""
    bindings = [
        {name: {"type": "uri", "value": WORLD.iri(f"E{e}")} for name, e in zip("so", row, strict=True)}
        for row in rows
    ]
    return json.dumps({"head": {"vars": ["s", "o"]}, "results": {"bindings": bindings}})


def read_pages(size: PageSize, replies: Sequence[Reply]) -> list[tuple[str, ...]]:
    with scripted(*replies) as (url, seen):
        found = fetch(Client(url, WORLD, sleep=no_sleep), facts("R1"), by=("s",), size=size).ids
    assert len(seen) == len(replies)
    return found


def test_a_page_that_takes_too_long_is_halved() -> None:
    replies = [
        numbers(4),
        numbers((1, 1), (2, 1), (3, 2)),
        JAVA,  # for the facts of E1 and E2
        pairs((1, 9)),
        pairs((2, 9)),
        pairs((3, 9), (3, 8)),
    ]
    found = read_pages(PageSize(rows=3), [response(reply) for reply in replies])
    assert found == [("E1", "E9"), ("E2", "E9"), ("E3", "E8"), ("E3", "E9")]


def test_a_page_that_cannot_be_halved_is_an_error() -> None:
    replies = [numbers(4), numbers((1, 4)), JAVA]
    with pytest.raises(QueryTooLargeError):
        read_pages(PageSize(rows=3), [response(reply) for reply in replies])


def test_labels_that_lack_an_entity_are_an_error() -> None:
    bindings = [{"e": {"type": "uri", "value": WORLD.iri("E1")}}]
    rows = json.dumps({"head": {"vars": ["e", "en", "mul", "target"]}, "results": {"bindings": bindings}})
    message = "1 rows about 1 entities came for 1 entities"  # of E2, once the two were asked about apart
    with scripted(response(rows)) as (url, _), pytest.raises(EndpointError, match=message):
        find_labels(EndpointSource(Client(url, WORLD, sleep=no_sleep)), ["E1", "E2"])


def test_a_count_that_is_no_number_is_an_error() -> None:
    rows = {"head": {"vars": ["rows"]}, "results": {"bindings": [{}]}}
    with (
        scripted(response(json.dumps(rows))) as (url, _),
        pytest.raises(EndpointError, match="a number was expected"),
    ):
        count(Client(url, WORLD, sleep=no_sleep), facts("R1"))
