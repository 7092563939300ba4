"""File locks for threads and processes that take turns."""

import fcntl
import os
from pathlib import Path
from typing import TextIO


def open_locked(path: Path) -> TextIO:
    """Open and lock the file at `path`, created where missing; wait for the lock. Closing it unlocks it.

    The kernel unlocks it as well when its holder dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return os.fdopen(descriptor, "r+", encoding="utf-8")
