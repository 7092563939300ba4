"""Processes that share one computation, synchronised step by step.

A worker is a Python module that is run. It is sent one line of JSON; from then on a byte in either direction
says that the sender has come to the end of a step. Whoever finds the other's end of a pipe closed knows that
the other has ended: so no process waits for one that was killed. This module loads no torch, so that a worker
watches the process that started it from its first moment.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from types import TracebackType
from typing import Any

import psutil

import aftershock
from aftershock.process import watch

DONE = b"."
ENDING_SECONDS = 60.0


class WorkerEndedError(RuntimeError):
    """A process that shares the work has ended before its end."""


class Workers:
    """The worker processes, seen from the one that started them; without any, `meet` does nothing."""

    def __init__(self, module: str, count: int) -> None:
        """Start `count` processes that run `module`, and open a `file` for all to share."""
        self.count, self.file = count, nameless_file()
        package = str(Path(aftershock.__file__).parents[1])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._running: list[Popen[bytes]] = [
            Popen(
                [sys.executable, "-m", module, str(os.getpid())],
                stdin=PIPE,
                stdout=PIPE,
                bufsize=0,
                pass_fds=[self.file],
                env={**os.environ, "PYTHONPATH": path},
            )
            for _ in range(count)
        ]

    def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Send each worker its share."""
        for worker, message in zip(self._running, messages, strict=True):
            self._write(worker, json.dumps({"file": self.file, **message}).encode() + b"\n")

    def meet(self) -> None:
        """Wait until all workers have come to the end of this step. Raises WorkerEndedError."""
        for worker in self._running:
            if _pipe(worker.stdout).read(1) != DONE:
                self._fail(worker)
        for worker in self._running:
            self._write(worker, DONE)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the workers, which have nothing left to do; kill them at once after an error."""
        for worker in self._running:
            if error is not None:
                worker.kill()
            _pipe(worker.stdin).close()
        for worker in self._running:
            _ended(worker)
            _pipe(worker.stdout).close()
        os.close(self.file)

    def _write(self, worker: "Popen[bytes]", text: bytes) -> None:
        try:
            _pipe(worker.stdin).write(text)
        except BrokenPipeError:
            self._fail(worker)

    def _fail(self, worker: "Popen[bytes]") -> None:
        """Raise the error of a worker that has ended."""
        code = _ended(worker)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        cause = "memory may have run out" if code < 0 else "its error is in the log"
        raise WorkerEndedError(
            f"process {worker.pid}, which shared the work, {how}: {cause}. Run again, or with one core"
        )


class Main:
    """The process that started this worker, seen from the worker."""

    def __init__(self) -> None:
        """End with that process, and send all that is printed to stderr: stdout is for the two alone."""
        if os.getppid() != int(sys.argv[1]):  # it has ended already
            sys.exit()
        watch([psutil.Process(os.getppid())])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process gets it as well, and ends the work
        self._from, self._to = os.dup(0), os.dup(1)
        os.dup2(2, 1)

    def receive(self) -> dict[str, Any]:
        """Return this worker's share of the work."""
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self._read()
        return json.loads(line)

    def meet(self) -> None:
        """Wait until all processes have come to the end of this step."""
        try:
            os.write(self._to, DONE)
        except BrokenPipeError:
            sys.exit()
        self._read()

    def _read(self) -> bytes:
        """The next byte; without one there is nothing left to do."""
        return os.read(self._from, 1) or sys.exit()


def nameless_file() -> int:
    """Return the descriptor of an empty file, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("aftershock")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _ended(worker: "Popen[bytes]") -> int:
    """Return the exit code of a worker, which is killed if it does not end by itself."""
    try:
        return worker.wait(ENDING_SECONDS)
    except TimeoutExpired:
        worker.kill()
        return worker.wait()


def _pipe(end: Any) -> Any:
    """Return a pipe of a process started with PIPE."""
    assert end is not None
    return end
