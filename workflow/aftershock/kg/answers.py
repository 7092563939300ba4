"""Interpretation of a response: the rows of an answer, or the error and whether asking again helps."""

import json
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from aftershock.kg.graph import Term
from aftershock.kg.terms import tag_of
from aftershock.kg.transport import Response

Row = tuple[Term | None, ...]

OVERLOADED = (502, 503, 504)
KINDS = {"uri": "uri", "literal": "literal", "typed-literal": "literal", "bnode": "bnode"}


class EndpointError(RuntimeError):
    """The endpoint gave no answer that could be used."""


class BannedError(EndpointError):
    """The endpoint refuses this client until `until`, in seconds since 1970; None when it does not say."""

    def __init__(self, message: str, until: float | None) -> None:
        super().__init__(message)
        self.until = until


class QueryTooLargeError(EndpointError):
    """The query took too long: a smaller query may help, the same one again would not."""


class IncompleteError(QueryTooLargeError):
    """Every answer lacked rows: the endpoint limits the number of rows, or the data changed meanwhile."""


class UnavailableError(EndpointError):
    """No attempt brought an answer; a smaller query may help, once."""


class PassingError(EndpointError):
    """Asking again after `wait` seconds may help; None leaves the waiting time to the client."""

    lasting: type[EndpointError] = EndpointError  # the error once no attempt is left

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class ThrottledError(PassingError):
    """The endpoint asks the client to wait; this does not count as a failed attempt."""


class OverloadedError(PassingError):
    """The endpoint, or a proxy in front of it, could not answer now."""

    lasting = UnavailableError


class BadBodyError(PassingError):
    """The body is not a complete answer; the endpoint may have cached it as one."""

    lasting: type[EndpointError] = UnavailableError


class MissingRowsError(BadBodyError):
    """The answer is well-formed and lacks rows, or has other rows than were asked for."""

    lasting = IncompleteError


class OutOfTimeError(PassingError):
    """A query that cannot easily be made smaller took too long."""

    lasting = QueryTooLargeError


def read_answer(response: Response, query: str) -> list[Row]:
    """The rows of a response, their terms in the order of the query's variables.

    Raises ValueError for a query that the endpoint cannot read, PassingError when asking again may help,
    QueryTooLargeError when only a smaller query may, EndpointError otherwise.
    """
    if response.status == 200:
        return read_rows(response.body, response.headers.get("Content-Type", "no Content-Type"))
    status, text = response.status, response.text
    if status == 400:
        raise ValueError(f"the endpoint cannot read this query: {_start(text)}\n{query}")
    if "banned until" in text:
        raise BannedError(
            f"this client is banned (HTTP {status}): {_start(text)}. Wait until then", _banned_until(text)
        )
    if status == 429:
        raise ThrottledError(f"HTTP 429: {_start(text)}", _retry_after(response))
    if "TimeoutException" in text:
        raise QueryTooLargeError(f"the endpoint ran out of time: {_start(text)}")
    if status in OVERLOADED:
        raise OverloadedError(f"HTTP {status}: {_start(text)}", _retry_after(response))
    if status == 500:
        raise PassingError(f"HTTP 500: {_start(text)}")
    if 300 <= status < 400:
        raise EndpointError(
            f"it redirects to {response.headers.get('Location')!r}, which is not followed because the query "
            "would be lost on the way; give that address as the endpoint if it is right"
        )
    if status == 403:
        raise EndpointError(f"HTTP 403: {_start(text)}. Refused or banned: check `contact`, and wait a day")
    raise EndpointError(f"HTTP {status}: {_start(text)}. Check the endpoint's address")


def read_rows(body: bytes, kind: str = "") -> list[Row]:
    """The rows of a body that is a complete SPARQL JSON answer, each once; no other body gives any rows.

    A server that fails after its first bytes has said 200 already: its JSON is cut off, and the Java trace of
    a time-out may follow. `kind` is the body's type, for the message.
    """
    try:
        return list(dict.fromkeys(_checked(json.loads(body))))
    except (ValueError, RecursionError) as error:
        if b"TimeoutException" in body:
            raise QueryTooLargeError("the endpoint ran out of time in the middle of its answer") from error
        raise BadBodyError(
            f"HTTP 200 but no whole JSON answer ({kind}, {len(body)} bytes, {error}): "
            f"{_start(body.decode(errors='replace'))}"
        ) from error


def _checked(answer: Any) -> list[Row]:
    try:
        variables = answer["head"]["vars"]
        bindings = answer["results"]["bindings"]
        return [_row(binding, variables) for binding in bindings]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the shape of a SPARQL answer: {error!r}") from error


def _row(binding: dict[str, dict[str, str]], variables: list[str]) -> Row:
    row = tuple(_term(binding[name]) if name in binding else None for name in variables)
    if len(row) - row.count(None) != len(binding):
        raise ValueError(f"values for unknown variables: {sorted(set(binding) - set(variables))}")
    return row


def _term(value: dict[str, str]) -> Term:
    tag = tag_of(value.get("xml:lang"), value.get("datatype"))
    term = Term(KINDS[value["type"]], value["value"], tag)
    if not isinstance(term.value, str):
        raise ValueError(f"a value that is no text: {term.value!r}")
    return term


def _retry_after(response: Response) -> float | None:
    """Seconds that the response asks to wait, given as a number or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return None


def _banned_until(text: str) -> float | None:
    """The end of a ban, when the text gives it as an ISO date."""
    words = text.partition("banned until")[2].split()
    try:
        until = datetime.fromisoformat(words[0].rstrip(",."))
        return (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp()
    except (IndexError, ValueError):
        return None


def _start(text: str) -> str:
    """The beginning of a body, on one line."""
    return repr(" ".join(text.split())[:200])
