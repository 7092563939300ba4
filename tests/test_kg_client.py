"""Requests of a client, their number, and endpoints that it refuses; faults are in test_kg_faults."""

import time

import pytest

from aftershock.kg.answers import EndpointError, QueryTooLargeError
from aftershock.kg.client import Client, Patience
from aftershock.kg.graph import Term
from aftershock.kg.pages import fetch
from aftershock.kg.queries import facts
from aftershock.project import version
from faulty import QUERY, FaultyEndpoint, client_of
from graphs import WORLD

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


def test_the_client_gives_up_after_some_attempts_and_says_why(endpoint: FaultyEndpoint) -> None:
    waits: list[float] = []
    endpoint.script = lambda query: "HTML"
    message = "no usable answer in 3 attempts.*Wikimedia Error.*run again"
    with pytest.raises(EndpointError, match=message):
        client_of(endpoint, patience=Patience(attempts=3), sleep=waits.append).select(QUERY)
    assert len(endpoint.asked) == 3
    assert waits == sorted(waits)
    assert len(waits) == 2


@pytest.mark.parametrize(
    "fault", ["500 out of time", "cut, out of time", "endless, out of time", "no byte", "drip", "slow header"]
)
def test_an_endpoint_out_of_time_is_not_asked_the_same_again(endpoint: FaultyEndpoint, fault: str) -> None:
    endpoint.script, begun = lambda query: fault, time.monotonic()
    message = "ran out of time" if "time" in fault else "no whole answer within 0.5 s"
    with pytest.raises(QueryTooLargeError, match=message):
        client_of(endpoint, patience=Patience(seconds=0.5)).select(QUERY)
    assert len(endpoint.asked) == 1
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("fault", ["500 out of time", "lost rows"])
@pytest.mark.parametrize("counting", [True, False])
def test_what_cannot_be_cut_any_smaller_is_an_error(
    endpoint: FaultyEndpoint, fault: str, counting: bool
) -> None:
    endpoint.script = lambda query: fault if counting or "COUNT" not in query else None
    with pytest.raises(QueryTooLargeError):
        fetch(client_of(endpoint), facts("R1"), by=("s",))
