"""Checks of the folder that a run writes to: names, permissions, free space and file dates."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from aftershock.jobs.places import user_name

PROBE_BYTES = 65536
FREE_BYTES = 128 * 2**20
"""A disk with less free space counts as full; the demo writes 41 MiB."""
FREE_FILES = 1000
WILDCARDS = "{}"
CLOCK_SECONDS = 60.0
"""Largest accepted difference between clocks."""


class PreflightError(RuntimeError):
    """Something that would stop a run, with what to do."""


def check_names(*folders: str | os.PathLike) -> None:
    """Raise PreflightError for a folder in whose path Snakemake would take braces for names of wildcards."""
    for folder in folders:
        path = os.path.abspath(folder)
        if found := sorted(set(WILDCARDS) & set(path)):
            raise PreflightError(
                f"Snakemake cannot work in {path}: it takes {' and '.join(found)} in a path "
                "for the name of a wildcard. Rename the folder, or move the project to another one"
            )


def check_writable(folder: Path) -> float:
    """Write a small file below `folder`, which is made where it is missing.

    The time that its file system gives the file comes back, in seconds since 1970. Raises PreflightError when
    writing fails, or when less than FREE_BYTES or FREE_FILES are free.
    """
    probe = folder / f".{socket.gethostname()}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(probe, "wb") as handle:
                handle.write(bytes(PROBE_BYTES))
                os.fsync(handle.fileno())
            now = probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
        free = os.statvfs(folder)
    except OSError as error:
        raise PreflightError(_unwritable(folder, error)) from None
    available = free.f_bavail * free.f_frsize
    if available < FREE_BYTES:
        raise PreflightError(
            f"{folder}/ is on a disk with {available / 2**20:.0f} MiB free; a run needs at least "
            f"{FREE_BYTES / 2**20:.0f} MiB. {_space(folder)}"
        )
    if free.f_files and free.f_favail < FREE_FILES:
        raise PreflightError(
            f"{folder}/ is on a disk with room for {free.f_favail} more files (inodes); a run needs at least "
            f"{FREE_FILES}. {_space(folder)}"
        )
    return now


def check_dates(folder: Path, now: float) -> None:
    """Compare `now`, the file system's time, with this machine's clock and with all files below `folder`.

    Raises PreflightError when one is off by more than CLOCK_SECONDS.
    """
    ahead = now - time.time()
    if abs(ahead) > CLOCK_SECONDS:
        raise PreflightError(
            f"the clock of {folder}/'s file system is {_span(ahead)} {'ahead of' if ahead > 0 else 'behind'} "
            f"that of {socket.gethostname()}: file ages cannot be compared. Correct the wrong clock (NTP)"
        )
    late = [(when, path) for path, when in _dated_files(folder) if when > now + CLOCK_SECONDS]
    if late:
        when, path = max(late)
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
        more = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
        raise PreflightError(
            f"{path} is dated {date}, {_span(when - now)} in the future{more}: what is made from it would be "
            "made again in every run. Delete what should be made anew, or date such files today: "
            f"find {folder} -newermt now -exec touch -h {{}} +"
        )


def _dated_files(folder: Path) -> Iterator[tuple[str, float]]:
    """Path and modification time of all files below `folder` whose names do not start with a dot."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _dated_files(Path(entry.path))
            elif not entry.name.startswith("."):
                yield entry.path, entry.stat(follow_symlinks=False).st_mtime


def _unwritable(folder: Path, error: OSError) -> str:
    if folder.is_symlink() and not folder.exists():
        there = os.readlink(folder)
        return f"{folder} is a link to {there}, which is not there. Make that folder, or remove the link"
    user = user_name()
    found = {
        errno.EROFS: f"is on a read-only disk. Run where it can be written, or {_elsewhere(folder)}",
        errno.EACCES: f"may not be written by {user}. Change its permissions, or {_elsewhere(folder)}",
        errno.EPERM: f"may not be written by {user}. Change its permissions, or {_elsewhere(folder)}",
        errno.ENOSPC: f"is on a full disk, or one without room for more files. {_space(folder)}",
        errno.EDQUOT: f"is beyond the quota of {user}. {_space(folder)}",
        errno.EFBIG: "may hold no file of 64 KiB: a limit on file sizes is in force. Raise it (ulimit -f)",
    }
    unknown = f"cannot be written ({error.strerror}). Check the disk, or {_elsewhere(folder)}"
    return f"{folder}/ {found.get(error.errno or 0, unknown)}"


def _space(folder: Path) -> str:
    return f"Free some space or raise the quota, or {_elsewhere(folder)}; finished files stay"


def _elsewhere(folder: Path) -> str:
    return f"move {folder}/ to another disk and leave a link in its place"


def _span(seconds: float) -> str:
    """A length of time in the largest unit that fits twice."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if abs(seconds) >= 2 * size:
            return f"{abs(seconds) / size:.0f} {unit}"
    return f"{abs(seconds):.0f} seconds"
