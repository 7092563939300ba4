"""A service of chat completions on this machine that answers, and fails, as a script says."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aftershock.paraphrases.asking import Relation

KEY = "sk-MARKED-0123456789abcdef"
SPOUSE = Relation("R1", "spouse", "{} is married to", "spouse", "person", "person", lacks=10)
COLUMNS = {"backend": "openai", "base_url": "http://x/v1", "model": "m", "temperature": 1.0, "seed": 0}


class Handler(BaseHTTPRequestHandler):
    """Sends the next answer of the script."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service: Service = self.server.service
        asked = json.loads(body)
        service.asked.append(asked)
        service.headers.append({name.lower(): value for name, value in self.headers.items()})
        step = service.script(asked, len(service.asked))
        if isinstance(step, str):
            self.send_json(completion(step, asked["model"]), x_request_id=f"req-{len(service.asked)}")
        else:
            step(self)

    def send_json(self, value: Any, status: int = 200, **headers: str) -> None:
        """A whole answer; underscores in names of headers stand for hyphens."""
        self.send_bytes(json.dumps(value).encode(), status, **headers)

    def send_bytes(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        given = {"content_type": "application/json", "content_length": str(len(content)), **headers}
        for name, text in given.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)


Step = str | Callable[[Handler], None]


class Service:
    """The requests so far, with headers, and the answers to come."""

    def __init__(self, script: Callable[[dict[str, Any], int], Step]) -> None:
        self.script = script
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.address = ""


def completion(text: str | None, model: str = "m", finish: str = "stop") -> dict[str, Any]:
    """A chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{model}-2026-05-01",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 300, "total_tokens": 500},
    }


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Step:
    """An error in the form that services give it."""
    return lambda h: h.send_json({"error": {"message": message, "code": code}}, status, **headers)


def reset(handler: Handler) -> None:
    """End the connection without a word."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.close_connection = True


def cut(handler: Handler) -> None:
    """Fewer bytes than announced."""
    content = json.dumps(completion("[]")).encode()
    handler.send_bytes(content[:-20], content_length=str(len(content)))
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """A byte now and then: no single wait is long."""
    handler.send_bytes(b"", content_length="500")
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.02)
    except OSError:
        pass  # the client hung up
    handler.close_connection = True


PASSING: dict[str, Step] = {
    "429 in seconds": refusal(429, f"slow down, {KEY}", retry_after="7"),
    "429 at a date": lambda h: refusal(429, "later", retry_after=formatdate(time.time() + 9))(h),
    "429 without a time": refusal(429, "slow down"),
    "500": refusal(500, "boom"),
    "502 as HTML": lambda h: h.send_bytes(b"<html>", 502, content_type="text/html"),
    "503 with a time": refusal(503, "overloaded", retry_after="3"),
    "408": refusal(408, "timeout"),
    "reset": reset,
    "cut": cut,
}
STOPPING: dict[str, tuple[Step, str]] = {
    "401": (refusal(401, f"Incorrect API key provided: {KEY}"), r"refuses the key in MY_KEY \(401\)"),
    "403": (refusal(403, "no access"), r"refuses the key in MY_KEY \(403\)"),
    "no quota": (refusal(429, "pay first", "insufficient_quota"), "quota is used up"),
    "400": (refusal(400, f"no seed for {KEY}"), r"does not accept the request \(400\): no seed for \[key\]"),
    "404": (refusal(404, "no such model"), r"\(404\): no such model"),
    "429 for a day": (
        refusal(429, "tomorrow", retry_after="86400"),
        "waiting .* more would exceed the 600 s",
    ),
    "302": (refusal(302, "", location="/elsewhere"), r"redirects \(302\): give its final address"),
}


def wordings(count: int, start: int = 0) -> list[str]:
    """Templates that are good and differ."""
    nouns = ("partner", "companion", "beloved", "consort", "bride", "groom", "mate", "dear", "match", "love")
    verbs = ("is", "was", "has always been")
    numbers = range(start, start + count)
    return [f"The {nouns[n % 10]} of {{}} {verbs[n // 10 % 3]} known by the name" for n in numbers]


def listing(texts: Sequence[object]) -> str:
    """An answer as it should be."""
    return json.dumps(list(texts), ensure_ascii=False)


@contextmanager
def chatty(script: Callable[[dict[str, Any], int], Step]) -> Iterator[Service]:
    """A running service; it ends with the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.service = Service(script)
    server.service.address = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.service
    finally:
        server.shutdown()
        server.server_close()


def scripted(*steps: Step) -> Callable[[dict[str, Any], int], Step]:
    """The steps one after the other; then good answers."""
    return lambda asked, number: steps[number - 1] if number <= len(steps) else listing(wordings(20))
