"""A gate for requests: one at a time with a pause after each, across all processes on this machine.

A service limits addresses, not processes. So all threads and processes of a user, in whatever
folder they run, take turns at a file: it is locked for as long as a request takes, and holds the time before
which nobody asks. One at a time also means that no more than 60 s of a service's time are used in 60 s, which
is what WDQS grants. Where a home folder is shared between machines, so is the gate.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from aftershock.kg.answers import EndpointError
from aftershock.kg.locks import open_locked

log = logging.getLogger(__name__)

SPACING = 2.0  # seconds after a request; WDQS grants 30 failing queries a minute


@dataclass
class Turn:
    """The right to send one request."""

    pause: float = 0.0

    def close(self, seconds: float) -> None:
        """Block all requests for `seconds`."""
        self.pause = max(self.pause, seconds)


@dataclass(frozen=True)
class OpenGate:
    """A gate without turns, for services on this machine; only the client's own pauses are kept."""

    sleep: Callable[[float], None] = time.sleep
    longest: float = 300.0

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Yield a turn at once; the pause that it ends with is waited out, unless it is too long."""
        turn = Turn()
        yield turn
        if 0 < turn.pause <= self.longest:
            self.sleep(turn.pause)


@dataclass(frozen=True)
class Gate:
    """The gate of one service, at the file `path`."""

    path: Path
    sleep: Callable[[float], None] = time.sleep
    longest: float = 300.0  # a longer pause ends the run
    spacing: float = SPACING
    clock: Callable[[], float] = field(default=time.time)  # wall-clock time, common to all processes

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Yield a turn once all earlier ones and the pause after the last are over.

        EndpointError when that pause is longer than anybody waits, such as a ban.
        """
        with self._locked() as file:
            opens = self._read(file)
            wait = opens - self.clock()
            if wait > self.longest:
                when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(opens))
                raise EndpointError(
                    f"the service asked to be left alone until {when}: run again after that time. "
                    f"It is noted in {self.path}, which can be deleted when that has been lifted"
                )
            if wait > 0:
                self.sleep(wait)
            turn = Turn()
            try:
                yield turn
            finally:
                self._write(file, self.clock() + max(self.spacing, turn.pause))

    @contextmanager
    def _locked(self) -> Iterator[TextIO]:
        try:
            file = open_locked(self.path)
        except OSError as error:
            raise self._unwritable(error) from error
        with file:
            yield file

    def _read(self, file: TextIO) -> float:
        """The time from which on requests may be sent; an unreadable file counts as just written."""
        file.seek(0)
        text = file.read()
        if not text:
            return 0.0
        try:
            return float(json.loads(text)["opens"])
        except (ValueError, KeyError, TypeError):
            log.warning("%s cannot be read and is written anew", self.path)
            return self.clock() + self.spacing

    def _write(self, file: TextIO, opens: float) -> None:
        try:
            file.seek(0)
            file.write(json.dumps({"opens": opens}))
            file.truncate()
            file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ValueError:
        return ValueError(
            f"cannot write {self.path} ({error.strerror}), where all who ask one service take turns: free "
            "some space, or set XDG_CACHE_HOME to a folder that can be written"
        )


def gate_file(endpoint: str) -> Path:
    """The file at which all clients of one host take turns."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    host = urlsplit(endpoint).netloc.rpartition("@")[2].lower()
    name = hashlib.sha256(host.encode()).hexdigest()[:16]
    return Path(home).expanduser() / "aftershock" / "gates" / f"{name}.json"
