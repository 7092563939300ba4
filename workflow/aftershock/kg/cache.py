"""Complete answers kept on disk, so that a run that was stopped asks only for the rest.

One file per query, named by a hash of endpoint, query and the format of these files: `zcat FILE` shows a
checksum, a line that says what was asked, where, when and how many rows came, and the answer as it was sent.
A file that does not fit its checksum, or that answers another query, is asked for again. An empty answer is a
file like any other. Nothing expires: deleting the folder starts afresh.
"""

import errno
import gzip
import hashlib
import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftershock.kg.locks import open_locked
from aftershock.output import whole_file

log = logging.getLogger(__name__)

FORMAT = 1


class CacheError(RuntimeError):
    """An answer could not be kept."""


@dataclass(frozen=True)
class Entry:
    """The file of one answer."""

    path: Path
    endpoint: str
    query: str
    clock: Callable[[], float] = time.time

    def read(self) -> bytes | None:
        """The answer as it was sent; None when it is missing or damaged."""
        try:
            head, body = _read(self.path)
        except FileNotFoundError:
            return None
        except (ValueError, EOFError, OSError, zlib.error) as error:
            log.warning("%s was cut off or changed (%s): its query is asked again", self.path, error)
            return None
        if (head["format"], head["endpoint"], head["query"]) != (FORMAT, self.endpoint, self.query):
            log.warning("%s answers another query: its own is asked again", self.path)
            return None
        return body

    def write(self, body: bytes, rows: int) -> None:
        """Keep an answer with its number of rows, completely or not at all."""
        asked = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock()))
        head = {"format": FORMAT, "endpoint": self.endpoint, "query": self.query, "asked": asked}
        head |= {"rows": rows, "empty": rows == 0}
        content = json.dumps(head).encode() + b"\n" + body
        checksum = hashlib.sha256(content).hexdigest().encode()
        try:
            with whole_file(self.path) as part:
                part.write_bytes(gzip.compress(checksum + b"\n" + content, compresslevel=1, mtime=0))
        except OSError as error:
            closed = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
            remedy = "Make its folder writable" if closed else "Free some space"
            raise CacheError(
                f"cannot write {self.path}: {error.strerror}. {remedy}, then run again: "
                "all answers before this one are kept"
            ) from error


@dataclass(frozen=True)
class Cache:
    """A folder of answers; any number of processes and threads may share it."""

    folder: Path
    clock: Callable[[], float] = time.time

    def entry(self, endpoint: str, query: str) -> Entry:
        """The file of the answer to `query`."""
        key = json.dumps([endpoint, query, FORMAT])
        name = hashlib.sha256(key.encode()).hexdigest()
        return Entry(self.folder / name[:2] / f"{name}.json.gz", endpoint, query, self.clock)

    @contextmanager
    def lock(self, entry: Entry) -> Iterator[None]:
        """Keep others from asking the same query meanwhile; one in 256 other queries waits as well."""
        try:
            file = open_locked(entry.path.parent / ".lock")
        except OSError as error:
            raise CacheError(
                f"cannot write to {entry.path.parent}: {error.strerror}. Free some space or make the folder "
                "writable, then run again"
            ) from error
        with file:
            yield

    def journal(self) -> Iterator[dict[str, Any]]:
        """Yield endpoint, query, asked (UTC) and rows of every answer that is kept and intact."""
        for path in sorted(self.folder.glob("??/*.json.gz")):
            try:
                yield _read(path)[0]
            except (ValueError, EOFError, OSError, zlib.error) as error:
                log.warning("%s was cut off or changed (%s)", path, error)


def cache_folder(kg: str) -> Path:
    """Folder of the answers about a configured graph; no rule's output, so it outlives failed jobs."""
    return Path("results/kg") / kg / "cache"


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a file (endpoint, query, rows) and the answer; ValueError when its checksum is wrong."""
    with gzip.open(path) as file:
        checksum, _, content = file.read().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise ValueError("its checksum does not fit")
    head, _, body = content.partition(b"\n")
    return json.loads(head), body
