"""A SPARQL endpoint that fails on purpose, a small graph behind it, and what is mined from that graph."""

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pyoxigraph

from aftershock.kg.cache import Cache
from aftershock.kg.client import Client, PageSize, Patience
from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.endpoint import JSON, Endpoint, Handler
from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.labels import find_labels
from aftershock.kg.logic import LogicRule
from aftershock.kg.sample import sample_facts
from graphs import LABEL, SAME_AS, WORLD, store_of, triple

QUERY = "SELECT ?s ?o WHERE { ?s wdt:R1 ?o }"
GENID = f"<{WORLD.entities.replace('entity/', '.well-known/genid/')}ab12>"
JAVA = "SPARQL-QUERY: queryStr=SELECT\njava.util.concurrent.TimeoutException\n\tat com.bigdata.rdf"
BAN = "You have been banned until 2030-01-01T00:00:00Z, please respect throttling and retry-after headers."
HTML = "<html><head><title>Wikimedia Error</title></head></html>"
XML = '<?xml version="1.0"?><sparql xmlns="http://www.w3.org/2005/sparql-results#"/>'
CAP = 3  # rows that a capped answer has at most


class FaultyHandler(Handler):
    """Answers as the endpoint's script says."""

    timeout = 5

    def answer_query(self, query: str) -> None:
        """Send the next fault of the script, or the answer."""
        self.server.asked.append(query)
        self.server.heads.append(f"{self.requestline}\n{self.headers}")
        name = self.server.script(query)
        if name:
            self.server.sent[name] += 1
            FAULTS[name](self, query)
        else:
            super().answer_query(query)

    def rows(self, query: str) -> dict[str, Any]:
        """The right answer."""
        return json.loads(self.server.answer(query))

    def send_rows(self, answer: dict[str, Any], bindings: list[dict]) -> None:
        """Send an answer with other rows."""
        self.reply(200, json.dumps({**answer, "results": {"bindings": bindings}}), JSON)

    def send_more(self, status: int, body: str = "", **headers: str) -> None:
        """Send a response with headers of its own; underscores in their names stand for hyphens."""
        self.send_response(status)
        data = body.encode()
        for name, value in {"Content_Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def stall(self) -> None:
        """Send nothing until the client has gone."""
        self.connection.settimeout(5)
        self.connection.recv(1)


class FaultyEndpoint(Endpoint):
    """An endpoint whose `script` names the fault of each request, or None; it notes what it was asked."""

    def __init__(self, store: pyoxigraph.Store, script: Callable[[str], str | None]) -> None:
        super().__init__(store, 60)
        self.RequestHandlerClass = FaultyHandler
        self.script = script
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.sent: Counter[str] = Counter()
        self.remembered: dict[str, str] = {}
        self.answers: dict[str, bytes] = {}
        self.hasty = False  # whether clients should not wait for long

    def answer(self, query: str) -> bytes:
        """The answer, computed once."""
        if query not in self.answers:
            self.answers[query] = super().answer(query)
        return self.answers[query]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what it should do."""


def _cut(handler: FaultyHandler, query: str, end: str = "") -> None:
    """Half the answer under a 200, as a server sends it that fails after its first bytes."""
    body = handler.server.answer(query).decode()
    handler.reply(200, body[: len(body) // 2] + end, JSON)


def _remember(handler: FaultyHandler, query: str) -> None:
    """Half the answer, and the same to everyone who asks with the same words again."""
    half = handler.server.answer(query).decode()[:-20]
    handler.reply(200, handler.server.remembered.setdefault(query, half), JSON)


def _short(handler: FaultyHandler, query: str) -> None:
    """Fewer bytes than announced."""
    body = handler.server.answer(query).decode()
    handler.send_more(200, body[:-5], Content_Type=JSON, Content_Length=str(len(body)))
    handler.close_connection = True


def _raw(handler: FaultyHandler, text: str) -> None:
    """Send this, which need not be HTTP, and end the connection."""
    handler.wfile.write(text.encode())
    handler.close_connection = True


def _endless(handler: FaultyHandler, query: str, end: str = "") -> None:
    """Half an answer whose end is the end of the connection, as long streams have it."""
    body = handler.server.answer(query).decode()
    _raw(handler, f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\n\r\n{body[: len(body) // 2]}{end}")


def _reset(handler: FaultyHandler, query: str) -> None:
    """End the connection without a word."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.close_connection = True


def _drip(handler: FaultyHandler, start: str) -> None:
    """A byte now and then after a start: no single wait is long."""
    handler.wfile.write(start.encode())
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.02)


def _replace(old: str, new: str) -> Callable[[FaultyHandler, str], None]:
    """The answer with other words in it."""
    return lambda h, q: h.reply(200, h.server.answer(q).decode().replace(old, new), JSON)


def _shuffle(handler: FaultyHandler, query: str) -> None:
    """Every row twice, in another order."""
    answer = handler.rows(query)
    bindings = answer["results"]["bindings"] * 2
    random.Random(len(query)).shuffle(bindings)
    handler.send_rows(answer, bindings)


def _cap(handler: FaultyHandler, query: str) -> None:
    """The first rows as if they were all."""
    answer = handler.rows(query)
    handler.send_rows(answer, answer["results"]["bindings"][:CAP])


def _lose(handler: FaultyHandler, query: str) -> None:
    """All rows but one."""
    answer = handler.rows(query)
    bindings = answer["results"]["bindings"]
    handler.send_rows(answer, bindings[1:])


FAULTS: dict[str, Callable[[FaultyHandler, str], None]] = {
    # those that pass, or that smaller requests avoid
    "429 at once": lambda h, q: h.send_more(429, "Please retry in 0 seconds", Retry_After="0"),
    "429 in seconds": lambda h, q: h.send_more(429, HTML, Content_Type="text/html", Retry_After="7"),
    "429 at a date": lambda h, q: h.send_more(429, HTML, Retry_After=formatdate(time.time() + 9)),
    "429 without a time": lambda h, q: h.send_more(429),
    "500": lambda h, q: h.reply(500, "boom"),
    "500 out of time": lambda h, q: h.reply(500, JAVA),
    "502": lambda h, q: h.reply(502, HTML, "text/html"),
    "503": lambda h, q: h.send_more(503, HTML, Retry_After="3"),
    "503 soon": lambda h, q: h.send_more(503, HTML, Retry_After="soon"),
    "504": lambda h, q: h.reply(504, "upstream request timeout"),
    "reset": _reset,
    "end": lambda h, q: _raw(h, ""),
    "no HTTP": lambda h, q: _raw(h, "not http\r\n\r\n"),
    "no byte": lambda h, q: h.stall(),
    "drip": lambda h, q: _drip(h, f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: 500\r\n\r\n"),
    "slow header": lambda h, q: _drip(h, "HTTP/1.1 200 OK\r\nX: "),
    "short body": _short,
    "cut": _cut,
    "cut, out of time": lambda h, q: _cut(h, q, JAVA),
    "endless, cut": _endless,
    "endless, out of time": lambda h, q: _endless(h, q, JAVA),
    "cut and remembered": _remember,
    "a list": lambda h, q: h.reply(200, "[1]", JSON),
    "true": lambda h, q: h.reply(200, '{"boolean": true, "head": {}}', JSON),
    "odd terms": _replace('"type":"', '"type":"x'),
    "odd variables": _replace('"vars":["', '"vars":["x'),
    "empty body": lambda h, q: h.reply(200, "", JSON),
    "HTML": lambda h, q: h.reply(200, HTML, "text/html"),
    "XML": lambda h, q: h.reply(200, XML, "application/sparql-results+xml"),
    "wrong type": lambda h, q: h.reply(200, h.server.answer(q), "text/plain"),
    "no rows": lambda h, q: h.send_rows(h.rows(q), []),
    "repeated and reordered rows": _shuffle,
    "capped rows": _cap,
    "lost rows": _lose,
    # those that a run stops at
    "banned": lambda h, q: h.reply(429, BAN),
    "banned for long": lambda h, q: h.reply(429, "You have been banned until further notice"),
    "429 for a day": lambda h, q: h.send_more(429, HTML, Retry_After="86400"),
    "400": lambda h, q: h.reply(400, "malformed query"),
    "401": lambda h, q: h.reply(401, "who are you"),
    "403": lambda h, q: h.reply(403, "Forbidden"),
    "404": lambda h, q: h.reply(404, "not here"),
    "302": lambda h, q: h.send_more(302, Location="/sparql"),
}
STOPPING = list(FAULTS)[-8:]
SLOW = ["no byte", "drip", "slow header"]
PASSING = [name for name in FAULTS if name not in STOPPING + SLOW]


def small_graph() -> pyoxigraph.Store:
    """24 facts between 9 entities with labels of all sorts, a redirection, and what is no fact."""
    rng = random.Random(4)
    entities = [f"E{number}" for number in range(1, 10)]
    facts = {(rng.choice(entities), f"R{rng.randint(1, 2)}", rng.choice(entities)) for _ in range(30)}
    lines = [triple(*fact) for fact in sorted(facts)]
    lines += [triple("E1", "R1", '"1970"'), triple("E2", "R1", GENID), triple("E3", "R2", "E20")]
    names = [(n, f'"name {n}"@{"en" if n % 3 else "mul"}') for n in range(1, 9)]
    names += [(1, '"nom"@fr'), (1, '"any name"@mul'), (1, '"also"@en')]
    lines += [triple(f"E{n}", LABEL, name) for n, name in names]
    return store_of([*lines, triple("E20", SAME_AS, "E21"), triple("E9", "R3", "E9")])


@contextmanager
def faulty(script: Callable[[str], str | None], store: pyoxigraph.Store) -> Iterator[FaultyEndpoint]:
    """An endpoint that fails by a script, for as long as the block runs."""
    with FaultyEndpoint(store, script) as endpoint:
        thread = Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            thread.join()


def no_sleep(seconds: float) -> None:
    """Wait for nothing."""


def client_of(endpoint: FaultyEndpoint, folder: Path | None = None, **options: Any) -> Client:
    """A client of small pages, which waits 60 s in all, and keeps answers where a folder is given."""
    given = {
        "patience": Patience(seconds=0.2 if endpoint.hasty else 5, total_wait=60),
        "sleep": no_sleep,
        "cache": Cache(folder) if folder else None,
        "page": PageSize(rows=4, values=2),
    }
    return Client(endpoint.url, WORLD, **given | options)


def mine(client: Client) -> dict[str, list[tuple]]:
    """The rows of all tables that are mined from the small graph, and what was left out."""
    source = EndpointSource(client)
    sample, odd = sample_facts(source, ["R1", "R2"], 10_000, seed=0)
    found = {"sample": sample, "left out": pd.DataFrame(sorted(odd.items()))}
    for rule in ("R1>R2", "R1&R2>R2"):
        found[rule], _ = find_combinations(source, LogicRule.parse(rule), 10_000, seed=0)
    found["objects"], _ = find_objects(source, "R1", 2, 4)
    ids = set(sample["subject_id"]) | set(sample["object_id"])
    found["labels"] = find_labels(source, ids)
    return {
        name: list(frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None))
        for name, frame in found.items()
    }
