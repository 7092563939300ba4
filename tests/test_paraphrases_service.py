"""Asking a service: what it may do wrong, and what is kept of its answers."""

import logging
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aftershock.paraphrases.asking import Effort, ask_all, ask_for
from aftershock.paraphrases.endpoint import Endpoint, Patience
from aftershock.paraphrases.kept import AskingError, KeptAnswers
from chatty import (
    COLUMNS,
    KEY,
    PASSING,
    SPOUSE,
    STOPPING,
    Handler,
    chatty,
    cut,
    drip,
    listing,
    scripted,
    wordings,
)
from clocks import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setenv("MY_KEY", KEY)
    return Clock()


def endpoint(address: str, clock: Clock, **changes: Any) -> Endpoint:
    settings = {"key": "MY_KEY", "sleep": clock.sleep, "clock": clock.time}
    return Endpoint(address, "m", **{**settings, **changes})


MESSAGES = [{"role": "user", "content": "say {}"}]


# --- one request -------------------------------------------------------------------------------------------
def test_the_request_is_what_the_configuration_says(clock: Clock, tmp_path: Path) -> None:
    with chatty(scripted()) as service:
        found = KeptAnswers(endpoint(service.address, clock, max_tokens=900), tmp_path).ask(MESSAGES)
        KeptAnswers(endpoint(service.address, clock, temperature=None, seed=None), tmp_path).ask(MESSAGES)
    full, bare = service.asked
    assert full == {"model": "m", "messages": MESSAGES, "temperature": 1.0, "seed": 0, "max_tokens": 900}
    assert bare == {"model": "m", "messages": MESSAGES}
    assert {headers["authorization"] for headers in service.headers} == {f"Bearer {KEY}"}
    assert (found.model, found.request_id, found.finish) == ("m-2026-05-01", "req-1", "stop")
    assert (found.prompt_tokens, found.completion_tokens) == (200, 300)


@pytest.mark.parametrize("name", PASSING)
def test_faults_that_pass_are_waited_out(clock: Clock, tmp_path: Path, name: str) -> None:
    with chatty(scripted(PASSING[name], PASSING[name])) as service:
        answers = KeptAnswers(endpoint(service.address, clock), tmp_path)
        assert answers.ask(MESSAGES).text == listing(wordings(20))
    assert len(service.asked) == 3
    least = {"429 in seconds": 7, "429 at a date": 8, "503 with a time": 3}.get(name, 2)
    assert all(least <= wait < 1.25 * 10 for wait in clock.waits)
    assert len(clock.waits) == 2


def test_a_trickle_does_not_last(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", time.monotonic)
    with chatty(scripted(drip)) as service:
        one = endpoint(service.address, clock, patience=Patience(attempt=0.3))
        start = time.monotonic()
        assert KeptAnswers(one, tmp_path).ask(MESSAGES).text == listing(wordings(20))
        assert time.monotonic() - start < 2
    assert len(service.asked) == 2


@pytest.mark.parametrize("name", STOPPING)
def test_faults_that_last_stop_at_once(clock: Clock, tmp_path: Path, name: str) -> None:
    step, expected = STOPPING[name]
    with chatty(scripted(step)) as service, pytest.raises(AskingError, match=expected) as caught:
        KeptAnswers(endpoint(service.address, clock), tmp_path).ask(MESSAGES)
    assert len(service.asked) == 1
    assert clock.waits == []
    assert KEY not in str(caught.value)
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told
    assert told.count("Traceback") == 1


def test_patience_ends(clock: Clock, tmp_path: Path) -> None:
    with chatty(lambda asked, number: PASSING["500"]) as service:
        answers = KeptAnswers(endpoint(service.address, clock), tmp_path)
        with pytest.raises(AskingError, match="no answer in 5 attempts: status 500: boom.*answers so far"):
            answers.ask(MESSAGES)
        assert len(service.asked) == 5
    with chatty(lambda asked, number: PASSING["429 in seconds"]) as service:
        answers = KeptAnswers(endpoint(service.address, clock, patience=Patience(total=60)), tmp_path)
        clock.now = 0
        with pytest.raises(AskingError, match=r"too many requests \(429\): slow down, \[key\]; waiting"):
            answers.ask(MESSAGES)
        assert clock.now <= 60
        assert len(service.asked) >= 6


def test_nobody_is_there(clock: Clock, tmp_path: Path) -> None:
    with chatty(scripted()) as service:
        address = service.address
    with pytest.raises(AskingError, match="no answer in 5 attempts: Connect"):
        KeptAnswers(endpoint(address, clock), tmp_path).ask(MESSAGES)


@pytest.mark.parametrize("key", [None, " ", "ä"])
def test_a_key_that_is_none_is_named_by_its_variable(clock, tmp_path, monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key) if key else monkeypatch.delenv("MY_KEY")
    said = "key in MY_KEY cannot be sent" if key == "ä" else "environment variable MY_KEY holds no key"
    with chatty(scripted()) as service, pytest.raises(AskingError, match=said):
        KeptAnswers(endpoint(service.address, clock), tmp_path).ask(MESSAGES)
    assert service.asked == []


def test_a_service_may_want_no_key(clock: Clock, tmp_path: Path) -> None:
    with chatty(scripted()) as service:
        KeptAnswers(endpoint(service.address, clock, key=None), tmp_path).ask(MESSAGES)
    assert service.headers[0]["authorization"] == "Bearer none"
    step, _ = STOPPING["401"]
    with chatty(scripted(step)) as service, pytest.raises(AskingError, match=r"wants a key \(401\)"):
        KeptAnswers(endpoint(service.address, clock, key=None), tmp_path / "b").ask(MESSAGES)


# --- what is kept ------------------------------------------------------------------------------------------
def test_a_second_run_asks_nobody_and_needs_no_key(clock, tmp_path, monkeypatch):
    with chatty(scripted()) as service:
        first = ask_for(SPOUSE, KeptAnswers(endpoint(service.address, clock), tmp_path), Effort())
        address = service.address
    monkeypatch.delenv("MY_KEY")
    again = KeptAnswers(endpoint(address, clock), tmp_path)
    assert ask_for(SPOUSE, again, Effort()) == first
    assert (again.asked, again.cached) == (0, 1)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.5}, {"seed": 1}, {"max_tokens": 5}, {"seed": None}, {"model": "n"}]
)
def test_whatever_decides_the_answer_is_part_of_its_name(clock, tmp_path, changes):
    with chatty(scripted()) as service:
        KeptAnswers(endpoint(service.address, clock), tmp_path).ask(MESSAGES)
        other = endpoint(service.address, clock, **{k: v for k, v in changes.items() if k != "model"})
        other.model = changes.get("model", "m")
        KeptAnswers(other, tmp_path).ask(MESSAGES)
        KeptAnswers(endpoint(service.address + "/", clock), tmp_path).ask(MESSAGES)  # the same address
        KeptAnswers(endpoint(service.address, clock), tmp_path).ask([{"role": "user", "content": "x"}])
    assert len(service.asked) == 3
    assert len(list(tmp_path.rglob("*.json.gz"))) == 3


def test_a_damaged_file_is_asked_for_again(clock: Clock, tmp_path: Path) -> None:
    with chatty(scripted()) as service:
        first = KeptAnswers(endpoint(service.address, clock), tmp_path).ask(MESSAGES)
        (file,) = tmp_path.rglob("*.json.gz")
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        again = KeptAnswers(endpoint(service.address, clock), tmp_path)
        assert again.ask(MESSAGES).text == first.text
    assert again.asked == 1


@pytest.mark.parametrize(
    "text",
    [
        *("<html>", "", "[]", '{"choices": []}', '{"choices": [{"message": {"content": 3}}]}'),
        '{"error": {"message": "x"}}',
    ],
)
def test_what_is_no_answer_is_set_aside_and_asked_again(clock: Clock, tmp_path: Path, text: str) -> None:
    def step(handler: Handler) -> None:
        handler.send_bytes(text.encode())

    with chatty(scripted(step)) as service:
        answers = KeptAnswers(endpoint(service.address, clock), tmp_path)
        assert answers.ask(MESSAGES).text
    assert answers.asked == 2
    assert len(list(tmp_path.rglob("*.unread1"))) == 1
    said = "3 times with something that is no chat completion.*base_url"
    with chatty(scripted(step, step, step)) as service, pytest.raises(AskingError, match=said):
        KeptAnswers(endpoint(service.address, clock), tmp_path / "b").ask(MESSAGES)
    assert len(list((tmp_path / "b").rglob("*.unread*"))) == 3


def test_answers_before_a_fault_are_kept(clock: Clock, tmp_path: Path) -> None:
    relations = [replace(SPOUSE, relation_id=f"R{n}", prompt=f"{{}} number {n} is") for n in range(4)]
    good, (refusal, _) = listing(wordings(20)), STOPPING["401"]
    with chatty(scripted(good, good, refusal)) as service:
        with pytest.raises(AskingError, match="relation R2: .*refuses the key"):
            ask_all(relations, KeptAnswers(endpoint(service.address, clock), tmp_path), Effort(), COLUMNS)
        again = KeptAnswers(endpoint(service.address, clock), tmp_path)
        requests, _ = ask_all(relations, again, Effort(), COLUMNS)
    assert (again.cached, again.asked, len(requests)) == (2, 2, 4)


def test_the_library_logs_no_key(clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with chatty(scripted(PASSING["429 in seconds"], cut)) as service:
        KeptAnswers(endpoint(service.address, clock), tmp_path).ask(MESSAGES)
    assert caplog.text
    assert KEY not in caplog.text
