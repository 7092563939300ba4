"""A SPARQL endpoint on this machine: a store behind HTTP, asked by the same client as live services."""

import io
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyoxigraph

from aftershock.kg.store import open_store

log = logging.getLogger(__name__)

PATH = "/sparql"
JSON = "application/sparql-results+json"


class Endpoint(ThreadingHTTPServer):
    """The SPARQL protocol's query operation over a store, on a free loopback port."""

    daemon_threads = True

    def __init__(self, store: pyoxigraph.Store, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = store
        self.seconds = seconds

    @property
    def url(self) -> str:
        """Address to send queries to."""
        return f"http://127.0.0.1:{self.server_port}{PATH}"

    def answer(self, query: str) -> bytes:
        """JSON answer to a SELECT or ASK query, whole.

        Time is looked at whenever rows come out; what yields none, such as one long sort, runs on.
        """
        results = self.store.query(query)
        if isinstance(results, pyoxigraph.QueryTriples):
            raise SyntaxError("only SELECT and ASK queries are answered")
        answer = BoundedBytes(self.seconds)
        results.serialize(answer, format=pyoxigraph.QueryResultsFormat.JSON)
        return answer.getvalue()


class BoundedBytes(io.BytesIO):
    """A byte buffer that refuses to be written after a time limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def write(self, data: Any, /) -> int:
        """Append `data`, or raise TimeoutError after the time limit."""
        if time.monotonic() > self.end:
            raise TimeoutError(f"TimeoutException: the query took longer than {self.seconds:g} s")
        return super().write(data)


class Handler(BaseHTTPRequestHandler):
    """HTTP handler: takes the query from GET, a POSTed form or a POSTed body, and answers with JSON."""

    server: Endpoint
    timeout = 60

    def do_GET(self) -> None:  # noqa: N802, the name that http.server calls
        """Answer `?query=`."""
        self.answer_form(urlsplit(self.path).query)

    def do_POST(self) -> None:  # noqa: N802
        """Answer a form or a query sent as such."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.headers.get_content_type()
        if kind == "application/sparql-query":
            self.answer_query(body.decode())
        elif kind == "application/x-www-form-urlencoded":
            self.answer_form(body.decode())
        else:
            self.reply(415, f"cannot read a query from {kind}")

    def answer_form(self, form: str) -> None:
        """Answer the field `query` of an encoded form."""
        queries = parse_qs(form).get("query", [])
        if len(queries) == 1:
            self.answer_query(queries[0])
        else:
            self.reply(400, f"one query is needed, {len(queries)} came")

    def answer_query(self, query: str) -> None:
        """Answer a query, or reply with its error."""
        if urlsplit(self.path).path != PATH:
            self.reply(404, f"queries are answered at {PATH}")
            return
        try:
            answer = self.server.answer(query)
        except SyntaxError as error:
            self.reply(400, f"malformed query: {error}")
        except (OSError, RuntimeError) as error:
            self.reply(500, str(error))
        else:
            self.reply(200, answer, JSON)

    def reply(self, status: int, body: bytes | str, kind: str = "text/plain; charset=utf-8") -> None:
        """Send a complete response."""
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Log a request at debug level."""
        log.debug(format, *args)


@contextmanager
def serve(store: str | os.PathLike | pyoxigraph.Store, seconds: float = 60.0) -> Iterator[str]:
    """Yield the address of an endpoint over `store` (opened read-only when a folder), served in this process.

    Nothing listens after the block. A query may take so many `seconds`.
    """
    opened = store if isinstance(store, pyoxigraph.Store) else open_store(store)
    with Endpoint(opened, seconds) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield endpoint.url
        finally:
            endpoint.shutdown()
            thread.join()
