"""Faults of an endpoint, alone and mixed: the tables are those without faults, or the run stops and says why.

Waits are noted and not waited out.
"""

import random
import re
from collections import Counter
from collections.abc import Callable

import pytest

from aftershock.kg.answers import EndpointError
from aftershock.kg.client import Client
from faulty import (
    CAP,
    FAULTS,
    PASSING,
    SLOW,
    STOPPING,
    FaultyEndpoint,
    client_of,
    faulty,
    mine,
    no_sleep,
    small_graph,
)
from graphs import WORLD
from tiers import repeated

SEQUENCES = 40
BLOCKS = 2

# what a run says when a fault does not pass; those that are missing here do no harm, however long they last
STOPS = {
    "429 at once": "kept this client waiting for 60 s: HTTP 429.*Run again later",
    "429 in seconds": "kept this client waiting for 60 s: HTTP 429",
    "429 at a date": "kept this client waiting for 60 s: HTTP 429",
    "429 without a time": "kept this client waiting for 60 s: HTTP 429",
    "500": "no usable answer in 5 attempts: HTTP 500: 'boom'.*run again",
    "500 out of time": "the endpoint ran out of time",
    "502": "no usable answer in 5 attempts: HTTP 502",
    "503": "no usable answer in 5 attempts: HTTP 503",
    "503 soon": "no usable answer in 5 attempts: HTTP 503",
    "504": "no usable answer in 5 attempts: HTTP 504",
    "reset": "no usable answer in 5 attempts: (ConnectionResetError|RemoteDisconnected)",
    "end": "no usable answer in 5 attempts: RemoteDisconnected",
    "no HTTP": "no usable answer in 5 attempts: BadStatusLine",
    **dict.fromkeys(SLOW, "no whole answer within 0.2 s"),
    "short body": "no usable answer in 5 attempts: IncompleteRead",
    "cut": "no usable answer in 5 attempts: HTTP 200 but no whole JSON answer",
    "cut, out of time": "the endpoint ran out of time in the middle of its answer",
    "endless, out of time": "the endpoint ran out of time in the middle of its answer",
    **dict.fromkeys(
        ["endless, cut", "cut and remembered", "a list", "true", "odd terms", "odd variables"],
        "no usable answer in 5 attempts: HTTP 200 but no whole JSON answer",
    ),
    "empty body": "no usable answer in 5 attempts: HTTP 200 but no whole JSON answer.* 0 bytes",
    "HTML": "no usable answer in 5 attempts: HTTP 200 but no whole JSON answer.*Wikimedia Error",
    "XML": "no usable answer in 5 attempts: HTTP 200 but no whole JSON answer.*<sparql",
    "no rows": "no usable answer in 2 attempts: a number was expected",
    "lost rows": "no usable answer in 2 attempts: .*cut off",
    "banned": "this client is banned .*Wait until then",
    "banned for long": "this client is banned .*until further notice'. Wait until then",
    "429 for a day": "asks to wait 86400 s, more than 300 s: run again after that time",
    "400": "cannot read this query: 'malformed query'\nPREFIX",
    "401": "HTTP 401.*Check the endpoint's address",
    "403": "HTTP 403.*Refused or banned: check `contact`",
    "404": "HTTP 404.*Check the endpoint's address",
    "302": "it redirects to '/sparql', which is not followed",
}
MIXED = [
    "gave no usable answer in [0-9] attempts: .*run again: finished files stay",
    "kept this client waiting for 60 s: .*Run again later: finished files stay",
    "counts [0-9]+ solutions but [0-9]+ in sixteen pieces.*Run again",
]
WAITS = {"429 at once": 1, "429 in seconds": 7, "429 at a date": 9, "503": 3}
"""Seconds that a client waits as it is asked to; 2 at first after other faults."""
NO_WAIT = [name for name in FAULTS if name in SLOW or "out of time" in name]
"""Faults after which smaller queries are asked at once."""
HARMLESS = ["wrong type", "repeated and reordered rows", "capped rows"]


@pytest.fixture(scope="module")
def expected() -> dict[str, list[tuple]]:
    with faulty(lambda query: None, small_graph()) as endpoint:
        tables = mine(Client(endpoint.url, WORLD))
    assert [len(rows) for rows in tables.values()] == [28, 2, 0, 3, 9, 11]
    return tables


def every(number: int, name: str) -> Callable[[str], str | None]:
    """A script in which every so many-th request meets a fault."""
    count = Counter()

    def script(query: str) -> str | None:
        count["requests"] += 1
        return name if count["requests"] % number == 0 else None

    return script


def test_every_fault_has_its_outcome() -> None:
    assert set(STOPS) | set(HARMLESS) == set(FAULTS)
    assert set(PASSING) | set(SLOW) | set(STOPPING) == set(FAULTS)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in STOPPING])
def test_a_fault_that_passes_leaves_no_trace(endpoint: FaultyEndpoint, expected, name: str) -> None:
    endpoint.script = every(12 if name in SLOW else 4, name)
    endpoint.hasty = name in SLOW
    waits: list[float] = []
    assert mine(client_of(endpoint, sleep=waits.append)) == expected
    assert endpoint.sent[name] >= 2
    wait = WAITS.get(name, 2)
    least = wait - 2 if "date" in name else wait  # of which some seconds are over
    assert all(least <= waited <= wait * 1.25 for waited in waits)
    assert waits or name in [*NO_WAIT, *HARMLESS]


@pytest.mark.parametrize("name", STOPS)
def test_a_fault_that_lasts_stops_the_run_and_nothing_is_lost(endpoint, expected, tmp_path, name):
    good, waits = 7, []
    endpoint.script = lambda query: name if len(endpoint.asked) > good else None
    endpoint.hasty = name in SLOW
    with pytest.raises((EndpointError, ValueError), match=f"(?s){STOPS[name]}"):
        mine(client_of(endpoint, tmp_path, sleep=waits.append))
    asked = len(endpoint.asked)
    if name in STOPPING:
        assert (asked, waits) == (good + 1, [])
    elif name in NO_WAIT:  # it is not asked the same again
        assert len(set(endpoint.asked)) == asked
    elif "waiting for 60 s" in STOPS[name]:
        assert 45 < sum(waits) <= 60
    elif "in 5 attempts" in STOPS[name] and name not in WAITS:
        assert waits == sorted(waits)
        assert len(waits) == 4
    endpoint.script, endpoint.hasty = lambda query: None, False
    resumed = client_of(endpoint, tmp_path)
    assert mine(resumed) == expected
    assert resumed.cached >= good
    assert len(set(endpoint.asked[:good]) & set(endpoint.asked[asked:])) == 0


@pytest.mark.parametrize("name", HARMLESS)
def test_some_faults_do_no_harm_however_long_they_last(endpoint: FaultyEndpoint, expected, name) -> None:
    endpoint.script = every(1, name)
    assert mine(client_of(endpoint)) == expected
    assert endpoint.sent[name] == len(endpoint.asked)


def test_an_endpoint_that_never_sends_much_gives_everything(endpoint: FaultyEndpoint, expected) -> None:
    def script(query: str) -> str | None:
        rows = endpoint.answer(query).count(b'{"o"') + endpoint.answer(query).count(b'"e":{')
        return "500 out of time" if rows > CAP else None

    endpoint.script = script
    assert mine(client_of(endpoint)) == expected
    assert mine(Client(endpoint.url, WORLD, sleep=no_sleep)) == expected
    assert endpoint.sent["500 out of time"] > 3


class Mixture:
    """A script of random faults, most of which pass."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rate = self.rng.choice([0.03, 0.1, 0.2, 0.4])
        self.kinds = self.rng.sample(PASSING, self.rng.randint(1, len(PASSING)))
        self.slow = self.rng.random() < 0.05

    def __call__(self, query: str) -> str | None:
        if self.rng.random() > self.rate:
            return None
        if self.rng.random() < 0.03:
            return self.rng.choice(STOPPING)
        if self.slow and self.rng.random() < 0.1:
            return self.rng.choice(SLOW)
        return self.rng.choice(self.kinds)


@pytest.mark.parametrize("block", [0, *map(repeated, range(1, BLOCKS))])
def test_any_mixture_of_faults_gives_the_same_tables(endpoint, expected, tmp_path, block):
    faults = 0
    for seed in range(block, SEQUENCES, BLOCKS):
        mixture = Mixture(seed)
        endpoint.script, endpoint.hasty = mixture, mixture.slow
        endpoint.remembered.clear()
        for attempt in range(40):
            try:
                tables = mine(client_of(endpoint, tmp_path / str(seed) if seed % 4 else None))
                break
            except (EndpointError, ValueError) as error:
                check_stop(error)
                if seed % 4 == 0 and attempt > 4:  # without a cache nothing is gained by resuming
                    mixture.rate = 0.05
        else:
            pytest.fail(f"sequence {seed} did not end")
        assert tables == expected, seed
        faults += sum(endpoint.sent.values())
        endpoint.sent.clear()
    assert faults > 40


def check_stop(error: Exception) -> None:
    """Fail unless an error is one of those that a run may stop with."""
    assert any(re.search(pattern, str(error), flags=re.S) for pattern in [*STOPS.values(), *MIXED]), error
