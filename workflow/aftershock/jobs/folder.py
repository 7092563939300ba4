"""Checks of the folder that a run writes to: names, permissions, free space and file dates."""

import errno
import os
import socket
import time
from pathlib import Path

from aftershock.jobs.places import user_name

PROBE_BYTES = 65536
FREE_BYTES = 128 * 2**20
"""A disk with less free space counts as full; the demo writes 41 MiB."""
CLOCK_SECONDS = 60.0
"""Largest accepted difference between clocks."""
SPACE = "Free some space or raise the quota, finished files stay; or {elsewhere}"
FAULTS = {
    errno.EROFS: "is on a read-only disk. Run where it can be written, or {elsewhere}",
    errno.EACCES: "may not be written by {user}. Change its permissions, or {elsewhere}",
    errno.EPERM: "may not be written by {user}. Change its permissions, or {elsewhere}",
    errno.ENOSPC: f"is on a full disk, or one without room for more files. {SPACE}",
    errno.EDQUOT: f"is beyond the quota of {{user}}. {SPACE}",
    errno.EFBIG: "may hold no file of 64 KiB: a limit on file sizes is in force. Raise it (ulimit -f)",
}
"""Why a file could not be written, and what to do."""


class PreflightError(RuntimeError):
    """Something that would stop a run, with what to do."""


def check_names(*folders: str | os.PathLike) -> None:
    """Raise PreflightError for a folder in whose path Snakemake would take braces for names of wildcards."""
    for path in map(os.path.abspath, folders):
        if found := sorted({"{", "}"} & set(path)):
            raise PreflightError(
                f"Snakemake cannot work in {path}: it takes {' and '.join(found)} in a path "
                "for the name of a wildcard. Rename the folder, or move the project to another one"
            )


def check_writable(folder: Path) -> float:
    """Write a small file below `folder`, which is made where it is missing.

    The time that its file system gives the file comes back, in seconds since 1970. Raises PreflightError when
    writing fails, or when less than FREE_BYTES are free.
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
        if folder.is_symlink() and not folder.exists():
            raise PreflightError(
                f"{folder} is a link to {os.readlink(folder)}, which is not there. "
                "Make that folder, or remove the link"
            ) from None
        unknown = f"cannot be written ({error.strerror}). Check the disk, or {{elsewhere}}"
        raise _fault(folder, FAULTS.get(error.errno or 0, unknown)) from None
    mib = free.f_bavail * free.f_frsize / 2**20
    if mib < FREE_BYTES / 2**20:
        needed = f"a run needs at least {FREE_BYTES / 2**20:.0f} MiB"
        raise _fault(folder, f"is on a disk with {mib:.0f} MiB free; {needed}. {SPACE}")
    return now


def _fault(folder: Path, text: str) -> PreflightError:
    elsewhere = f"move {folder}/ to another disk and leave a link in its place"
    return PreflightError(f"{folder}/ {text.format(user=user_name(), elsewhere=elsewhere)}")


def check_dates(folder: Path, now: float) -> None:
    """Raise PreflightError for files below `folder` that are dated after `now`, the file system's time."""
    files = (os.path.join(top, name) for top, _, names in os.walk(folder) for name in names if name[0] != ".")
    late = [(when, path) for path in files if (when := os.lstat(path).st_mtime) > now + CLOCK_SECONDS]
    if late:
        when, path = max(late)
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
        more = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
        raise PreflightError(
            f"{path} is dated {date}, in the future{more}: what is made from it would be made again in every "
            "run. Delete what should be made anew, or date such files today: "
            f"find {folder} -newermt now -exec touch -h {{}} +"
        )
