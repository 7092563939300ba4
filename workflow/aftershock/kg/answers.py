"""What a response means: the rows of an answer, or what went wrong and whether asking again helps."""

import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

from aftershock.kg.graph import Term
from aftershock.kg.transport import Response

Row = tuple[Term | None, ...]

REPEATABLE = (429, 502, 503, 504)
KINDS = {"uri": "uri", "literal": "literal", "typed-literal": "literal", "bnode": "bnode"}


class EndpointError(RuntimeError):
    """The endpoint gave no answer that could be used."""


class QueryTooLargeError(EndpointError):
    """The query took too long: asking for less at once may help, asking again would not."""


class PassingError(EndpointError):
    """Asking again after `wait` seconds may help; None leaves the waiting time to the client."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def read_answer(response: Response, query: str) -> list[Row]:
    """The rows of a response, their terms in the order of the query's variables.

    Raises ValueError for a query that the endpoint cannot read, PassingError when asking again may help,
    QueryTooLargeError when only a smaller query may, EndpointError otherwise.
    """
    text = response.text
    if response.status == 200:
        return _rows(response)
    if response.status == 400:
        raise ValueError(f"the endpoint cannot read this query: {_start(text)}\n{query}")
    if "banned until" in text:
        raise EndpointError(
            f"this client is banned (HTTP {response.status}): {_start(text)}. Wait until then"
        )
    if response.status in REPEATABLE:
        raise PassingError(f"HTTP {response.status}: {_start(text)}", _retry_after(response))
    if "TimeoutException" in text:
        raise QueryTooLargeError(f"the endpoint ran out of time: {_start(text)}")
    if response.status == 500:
        raise PassingError(f"HTTP 500: {_start(text)}")
    if 300 <= response.status < 400:
        raise EndpointError(
            f"it redirects to {response.headers.get('Location')!r}, which is not followed because the query "
            "would be lost on the way; give that address as the endpoint if it is right"
        )
    if response.status == 403:
        raise EndpointError(f"HTTP 403: {_start(text)}. Refused or banned: check `contact`, and wait a day")
    raise EndpointError(f"HTTP {response.status}: {_start(text)}. Check the endpoint's address")


def _rows(response: Response) -> list[Row]:
    """The rows of a body that is a whole SPARQL JSON answer; nothing is saved from any other body.

    A server that fails after its first bytes has said 200 already: its JSON is cut off, and the Java trace of
    a time-out may follow.
    """
    try:
        answer = json.loads(response.body)
        return _checked(answer)
    except ValueError as error:
        if b"TimeoutException" in response.body:
            raise QueryTooLargeError("the endpoint ran out of time in the middle of its answer") from error
        kind = response.headers.get("Content-Type", "no Content-Type")
        raise PassingError(
            f"HTTP 200 but no whole JSON answer ({kind}, {len(response.body)} bytes, {error}): "
            f"{_start(response.text)}"
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
    term = Term(KINDS[value["type"]], value["value"], value.get("xml:lang"))
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


def _start(text: str) -> str:
    """The beginning of a body, on one line."""
    return repr(" ".join(text.split())[:200])
