"""A SPARQL client that never takes a truncated answer for a complete one.

SPARQLWrapper builds the requests; sending them and judging the responses is ours, because its own `query`
waits without a limit, follows redirects and returns HTML or XML where JSON was asked for. All requests go
through a gate (`gate`), whole answers are kept where a cache is given (`cache`).
"""

import ipaddress
import logging
import random
import secrets
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import NamedTuple
from urllib.parse import urlsplit

import SPARQLWrapper

from aftershock.kg.answers import (
    BadBodyError,
    BannedError,
    EndpointError,
    MissingRowsError,
    OutOfTimeError,
    PassingError,
    QueryTooLargeError,
    Row,
    ThrottledError,
    read_answer,
    read_rows,
)
from aftershock.kg.cache import Cache
from aftershock.kg.gate import Gate, OpenGate, Turn, gate_file
from aftershock.kg.graph import Graph
from aftershock.kg.transport import send
from aftershock.project import version

log = logging.getLogger(__name__)

BAN_SECONDS = 3600.0  # for a ban of unstated length

Check = Callable[[list[Row]], str | None]  # returns a description of what an answer lacks, or None


@dataclass(frozen=True)
class PageSize:
    """Limits on one request; WDQS answers pages of this size well within its 60 s."""

    rows: int = 10_000
    values: int = 1000
    digits: int = 2  # of the hash that cuts pages where values cannot; each makes sixteen pieces


@dataclass(frozen=True)
class Patience:
    """Limits on the time and the attempts that a client spends on a query."""

    seconds: float = 75.0  # for one complete answer; WDQS gives up after 60
    attempts: int = 5  # failed ones; a request to wait does not count
    short_attempts: int = 2  # for an answer that lacks rows, or takes too long and cannot easily be cut
    longest_wait: float = 300.0  # seconds; a server that asks for more ends the run
    total_wait: float = 1800.0  # between the attempts at one query


class Answer(NamedTuple):
    """A complete answer, as sent (`body`) and as read (`rows`)."""

    body: bytes
    rows: list[Row]


class Client:
    """Client of one endpoint, for queries about one graph."""

    def __init__(
        self,
        endpoint: str,
        graph: Graph,
        contact: str | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        cache: Cache | None = None,
        gate: Gate | OpenGate | None = None,
        page: PageSize | None = None,
    ) -> None:
        """`contact`, a mail or web address, is needed for any endpoint that is not on this machine.

        Such an endpoint has one gate for all of this user's processes unless another `gate` is given.
        """
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise ValueError(f"endpoint {endpoint!r} is no http address")
        if contact and not (contact.isascii() and contact.isprintable()):
            raise ValueError(f"contact {contact!r} cannot be sent; write it in plain ASCII on one line")
        local = is_loopback(endpoint)
        if not local and not (contact and ("@" in contact or "://" in contact)):
            raise ValueError(
                f"endpoint {endpoint} is not on this machine and wants to know whom to write to: set "
                f"`contact` to your mail or web address (it is {contact!r})"
            )
        self.endpoint = endpoint
        self.graph = graph
        self.patience = patience or Patience()
        self.agent = (
            f"Aftershock/{version()} ({contact or 'local'}) SPARQLWrapper/{SPARQLWrapper.__version__}"
        )
        self.cache = cache
        self.page = page or PageSize()
        longest = self.patience.longest_wait
        self.gate = gate or (OpenGate(sleep, longest) if local else Gate(gate_file(endpoint), sleep, longest))
        self.requests = 0
        self.cached = 0

    def select(
        self, query: str, check: Check | None = None, fresh: bool = False, patient: bool = False
    ) -> list[Row]:
        """The distinct rows that answer a SELECT query, which is written without PREFIX lines.

        `check` says what an answer lacks; only one that lacks nothing is returned and kept. A `fresh` answer
        is asked for even when an earlier one is kept. `patient` asks again when the time was over, for
        queries that cannot well be made smaller.
        """
        full = self.graph.prefixes + query
        if self.cache is None:
            return self._fetch(full, check, patient).rows
        entry = self.cache.entry(self.endpoint, full)
        rows = None if fresh else self._kept(entry.read(), check)
        if rows is None:
            with self.cache.lock(entry):
                rows = None if fresh else self._kept(entry.read(), check)
                if rows is None:
                    answer = self._fetch(full, check, patient)
                    entry.write(answer.body, len(answer.rows))
                    return answer.rows
        self.cached += 1
        return rows

    def request(self, query: str) -> urllib.request.Request:
        """The request that asks `query`, as a POST: an address can be too long, a body cannot."""
        builder = SPARQLWrapper.SPARQLWrapper(self.endpoint, agent=self.agent)
        builder.setMethod(SPARQLWrapper.POST)
        builder.setRequestMethod(SPARQLWrapper.URLENCODED)
        builder.setReturnFormat(SPARQLWrapper.JSON)
        builder.setOnlyConneg(True)
        builder.setQuery(query)
        return builder._createRequest()

    def _kept(self, body: bytes | None, check: Check | None) -> list[Row] | None:
        """The rows of an answer from the cache; None when it lacks what is expected by now."""
        if body is None:
            return None
        try:
            rows = read_rows(body)
            lack = check(rows) if check else None
        except EndpointError as error:
            rows, lack = None, str(error)
        if lack:
            log.info("%s: an earlier answer is asked for again: %s", self.endpoint, lack)
        return None if lack else rows

    def _fetch(self, query: str, check: Check | None, patient: bool) -> Answer:
        """A complete answer to `query`, after as many attempts as `patience` allows."""
        attempts = Attempts(self.endpoint, self.patience)
        text = query
        while True:
            with self.gate.turn() as turn:
                try:
                    return self._ask(text, check)
                except BannedError as error:
                    turn.close(error.until - time.time() if error.until else BAN_SECONDS)
                    raise BannedError(f"{self.endpoint}: {error}", error.until) from error
                except PassingError as error:
                    attempts.fail(error, turn)
                    if isinstance(error, BadBodyError):  # a comment makes it a query that was never answered
                        text = f"{query}\n# {secrets.token_hex(4)}"
                except QueryTooLargeError as error:
                    if not patient:
                        raise QueryTooLargeError(f"{self.endpoint}: {error}") from error
                    attempts.fail(OutOfTimeError(str(error)), turn)
                except EndpointError as error:
                    raise type(error)(f"{self.endpoint}: {error}") from error

    def _ask(self, query: str, check: Check | None) -> Answer:
        self.requests += 1
        try:
            response = send(self.request(query), self.patience.seconds)
        except TimeoutError as error:
            raise QueryTooLargeError(f"{error}\n{query}") from error
        except (OSError, HTTPException) as error:
            raise PassingError(f"{type(error).__name__}: {error}") from error
        rows = read_answer(response, query)
        lack = check(rows) if check else None
        if lack:
            raise MissingRowsError(f"{lack} (the answer is cut off, or the data changed meanwhile)")
        return Answer(response.body, rows)


class Attempts:
    """Number of failed attempts at one query, and the seconds waited between them."""

    def __init__(self, endpoint: str, patience: Patience) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self.failed = 0
        self.waited = 0.0

    def fail(self, problem: PassingError, turn: Turn) -> None:
        """Close the gate until the next attempt; EndpointError when no attempt is left.

        As long as the server asks, at least a second; without its word twice as long each time.
        """
        self.failed += not isinstance(problem, ThrottledError)
        short = isinstance(problem, MissingRowsError | OutOfTimeError)
        if self.failed >= (self.patience.short_attempts if short else self.patience.attempts):
            raise type(problem).lasting(
                f"{self.endpoint} gave no usable answer in {self.failed} attempts: {problem}. "
                "Check that it is up, then run again: finished files stay"
            ) from problem
        asked = 2.0 ** max(self.failed, 1) if problem.wait is None else max(1.0, problem.wait)
        if asked > self.patience.longest_wait:
            turn.close(asked)
            raise EndpointError(
                f"{self.endpoint} asks to wait {asked:.0f} s, more than {self.patience.longest_wait:.0f} s: "
                "run again after that time"
            ) from problem
        seconds = asked * random.uniform(1.0, 1.25)
        self.waited += seconds
        if self.waited > self.patience.total_wait:
            raise EndpointError(
                f"{self.endpoint} kept this client waiting for {self.patience.total_wait:.0f} s: {problem}. "
                "Run again later: finished files stay"
            ) from problem
        log.warning("%s: %s; next attempt in %.1f s", self.endpoint, problem, seconds)
        turn.close(seconds)


def is_loopback(endpoint: str) -> bool:
    """True if an address is on this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
