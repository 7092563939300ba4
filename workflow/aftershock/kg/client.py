"""A SPARQL client that never takes half an answer for a whole one.

SPARQLWrapper builds the requests; sending them and judging the responses is ours, because its own `query`
waits without a limit, follows redirects and returns HTML or XML where JSON was asked for.
"""

import ipaddress
import logging
import random
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

import SPARQLWrapper

from aftershock.kg.answers import EndpointError, PassingError, QueryTooLargeError, Row, read_answer
from aftershock.kg.graph import Graph
from aftershock.kg.transport import send

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long and how often a client tries."""

    seconds: float = 75.0  # for one whole answer; WDQS gives up after 60
    attempts: int = 5
    longest_wait: float = 300.0  # a server that asks for more is left alone


class Client:
    """Asks one endpoint about one graph."""

    def __init__(
        self,
        endpoint: str,
        graph: Graph,
        contact: str | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`contact`, a mail or web address, is needed for any endpoint that is not on this machine."""
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise ValueError(f"endpoint {endpoint!r} is no http address")
        if not _is_loopback(endpoint) and not (contact and ("@" in contact or "://" in contact)):
            raise ValueError(
                f"endpoint {endpoint} is not on this machine and wants to know whom to write to: set "
                f"`contact` to your mail or web address (it is {contact!r})"
            )
        self.endpoint = endpoint
        self.graph = graph
        self.patience = patience or Patience()
        self.agent = f"Aftershock ({contact or 'local'}) SPARQLWrapper/{SPARQLWrapper.__version__}"
        self._sleep = sleep
        self.requests = 0

    def select(self, query: str) -> list[Row]:
        """The rows that answer a SELECT query, which is written without PREFIX lines."""
        full = self.graph.prefixes + query
        request = self.request(full)
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return self._ask(request, full)
            except PassingError as error:
                problem = error
            if attempt < self.patience.attempts:
                self._wait(problem, attempt)
        raise EndpointError(
            f"{self.endpoint} gave no usable answer in {self.patience.attempts} attempts: {problem}. "
            "Check that it is up, then run again: finished files stay"
        ) from problem

    def request(self, query: str) -> urllib.request.Request:
        """The request that asks `query`, as a POST: an address can be too long, a body cannot."""
        builder = SPARQLWrapper.SPARQLWrapper(self.endpoint, agent=self.agent)
        builder.setMethod(SPARQLWrapper.POST)
        builder.setRequestMethod(SPARQLWrapper.URLENCODED)
        builder.setReturnFormat(SPARQLWrapper.JSON)
        builder.setOnlyConneg(True)
        builder.setQuery(query)
        return builder._createRequest()

    def _ask(self, request: urllib.request.Request, query: str) -> list[Row]:
        self.requests += 1
        try:
            return read_answer(send(request, self.patience.seconds), query)
        except TimeoutError as error:
            raise QueryTooLargeError(f"{self.endpoint}: {error}\n{query}") from error
        except (OSError, HTTPException) as error:
            raise PassingError(f"{type(error).__name__}: {error}") from error
        except PassingError:
            raise
        except EndpointError as error:
            raise type(error)(f"{self.endpoint}: {error}") from error

    def _wait(self, problem: PassingError, attempt: int) -> None:
        """Wait as long as the server asks, at least a second; without its word twice as long each time."""
        asked = 2.0**attempt if problem.wait is None else max(1.0, problem.wait)
        if asked > self.patience.longest_wait:
            raise EndpointError(
                f"{self.endpoint} asks to wait {asked:.0f} s, more than {self.patience.longest_wait:.0f} s: "
                "run again after that time"
            ) from problem
        seconds = asked * random.uniform(1.0, 1.25)
        log.warning("%s: %s; attempt %d in %.1f s", self.endpoint, problem, attempt + 1, seconds)
        self._sleep(seconds)


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
