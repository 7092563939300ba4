"""Turns at a service: one request at a time, and pauses that are for all."""

import threading
import time
from collections.abc import Iterable

import pytest

from aftershock.kg.answers import BannedError, EndpointError
from aftershock.kg.client import Client, Patience
from aftershock.kg.gate import Gate, gate_file
from faulty import QUERY, FaultyEndpoint, no_sleep
from graphs import WORLD


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        self.now += seconds


def at_the_same_time(clients: Iterable[Client]) -> None:
    """Let each client ask in a thread of its own."""
    threads = [threading.Thread(target=client.select, args=(QUERY,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_requests_keep_their_distance_and_pauses_are_for_all(tmp_path) -> None:
    clock = Clock()
    one, other = (Gate(tmp_path / "gate", clock.sleep, clock=clock) for _ in range(2))
    starts = []
    for gate, pause in ((one, 0), (other, 40), (one, 0), (other, 0)):
        with gate.turn() as turn:
            starts.append(clock())
            turn.close(pause)
    assert starts == [1000, 1002, 1042, 1044]


def test_a_long_pause_ends_all_runs_with_a_message(endpoint: FaultyEndpoint, tmp_path) -> None:
    gate = Gate(tmp_path / "gate", no_sleep)
    endpoint.script = lambda query: "banned"
    with pytest.raises(BannedError, match="this client is banned"):
        Client(endpoint.url, WORLD, gate=gate).select(QUERY)
    with pytest.raises(
        EndpointError, match="left alone until 2030-01-01 .*run again after.*which can be deleted"
    ):
        Client(endpoint.url, WORLD, gate=gate).select(QUERY)
    assert len(endpoint.asked) == 1


def test_one_request_at_a_time_for_all_threads(endpoint: FaultyEndpoint, tmp_path) -> None:
    at_once, most = [], []

    def script(query: str) -> None:
        at_once.append(query)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()

    endpoint.script = script
    at_the_same_time(Client(endpoint.url, WORLD, gate=Gate(tmp_path / "gate", spacing=0.0)) for _ in range(6))
    assert most == [1] * 6


def test_one_request_at_a_time_for_all_processes(python, tmp_path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from aftershock.kg.gate import Gate
        asking = Path({str(tmp_path)!r}) / "asking"
        for _ in range(20):
            with Gate(asking.parent / "gate", spacing=0.0).turn():
                asking.touch(exist_ok=False)
                time.sleep(0.005)
                asking.unlink()
    """
    processes = [python(code) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_a_throttled_miner_stops_the_other(endpoint: FaultyEndpoint, tmp_path) -> None:
    clock = Clock()
    told, sent = [], []
    endpoint.script = lambda query: (
        (sent.append(clock()), told.append(1))[0] or ("429 in seconds" if len(told) == 1 else None)
    )
    gates = (Gate(tmp_path / "gate", clock.sleep, clock=clock) for _ in range(2))
    at_the_same_time(Client(endpoint.url, WORLD, gate=gate) for gate in gates)
    assert sent[0] == 1000
    assert all(start >= 1007 for start in sent[1:])
    assert len(sent) == 3


def test_a_broken_or_unwritable_gate(tmp_path, caplog) -> None:
    clock = Clock()
    (tmp_path / "gate").write_text("{oops")
    with Gate(tmp_path / "gate", clock.sleep, clock=clock).turn():
        assert clock() == 1002
    assert "written anew" in caplog.text
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match="take turns: free some space, or set XDG_CACHE_HOME"),
        Gate(tmp_path / "file" / "gate", clock.sleep).turn(),
    ):
        pass


def test_every_service_has_one_gate(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one = gate_file("https://query.example.org/sparql")
    assert one.parent.parent.parent == tmp_path
    assert one == gate_file("https://Query.example.org/other")
    assert one != gate_file("https://query.example.com/sparql")
    client = Client("https://query.example.org/sparql", WORLD, "me@example.org")
    assert client.gate.path == one
    assert Client("http://127.0.0.1:1/sparql", WORLD).gate != client.gate


def test_pauses_at_one_query_are_capped_in_total(endpoint: FaultyEndpoint) -> None:
    waits: list[float] = []
    endpoint.script = lambda query: "429 in seconds"
    client = Client(endpoint.url, WORLD, patience=Patience(total_wait=50), sleep=waits.append)
    with pytest.raises(EndpointError, match="kept this client waiting for 50 s: HTTP 429"):
        client.select(QUERY)
    assert 42 <= sum(waits) <= 50
    assert all(7 <= wait <= 7 * 1.25 for wait in waits)
