"""Folders that a run writes to: names, permissions, free space and file dates, and what replaces them.

Containers and clusters have users without a name, homes that are missing or read-only, and full temporary
folders, on which Snakemake, PyTorch, matplotlib and the Hub's library end with errors of their own. For those
outside the project there are others.
"""

import errno
import getpass
import os
import sys
import tempfile
import time
from pathlib import Path

PROBE_BYTES = 65536
FREE_BYTES = 128 * 2**20  # a disk with less free space counts as full; the demo writes 41 MiB
CLOCK_SECONDS = 60.0  # largest accepted difference between clocks
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
PLACES = Path(".snakemake") / "places"
"""Folder of those that replace others, below the working directory, which a run writes to anyway."""


class PreflightError(RuntimeError):
    """Something that would stop a run, with what to do."""


def user_name() -> str:
    """Return the name of the user, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}"


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
    try:
        now, free = _write_probe(folder), os.statvfs(folder)
        mib = free.f_bavail * free.f_frsize / 2**20
        if mib >= FREE_BYTES / 2**20:
            return now
        needed = f"a run needs at least {FREE_BYTES / 2**20:.0f} MiB"
        fault = f"is on a disk with {mib:.0f} MiB free; {needed}. {SPACE}"
    except OSError as error:
        if folder.is_symlink() and not folder.exists():
            link = f"{folder} is a link to {os.readlink(folder)}, which is not there"
            raise PreflightError(f"{link}. Make that folder, or remove the link") from None
        unknown = f"cannot be written ({error.strerror}). Check the disk, or {{elsewhere}}"
        fault = FAULTS.get(error.errno or 0, unknown)
    elsewhere = f"move {folder}/ to another disk and leave a link in its place"
    raise PreflightError(f"{folder}/ {fault.format(user=user_name(), elsewhere=elsewhere)}")


def _write_probe(folder: Path) -> float:
    """Write a file below a folder, made where it is missing; return its date. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as probe:
        probe.write(bytes(PROBE_BYTES))
        probe.flush()
        os.fsync(probe.fileno())
        return os.fstat(probe.fileno()).st_mtime


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


def find_places() -> None:
    """Name folders of the project in the environment for those that are missing or cannot be written.

    Everything that this process starts inherits them. A line on the terminal names each.
    """
    home = Path(os.path.expanduser("~"))
    if not (home.is_dir() and home.is_absolute()):
        home = _replace("HOME", home)
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError:  # none of the usual folders can be written
        temporary = Path("/tmp")
    for variable, usual in (
        ("XDG_CACHE_HOME", home / ".cache"),
        ("MPLCONFIGDIR", Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")),
        ("TMPDIR", temporary),
    ):
        place = Path(os.environ.get(variable) or usual)
        try:
            _write_probe(place)
        except OSError:
            _replace(variable, place)
    tempfile.tempdir = None  # look again
    if user_name() == f"user {os.getuid()}":
        os.environ["LOGNAME"] = f"user{os.getuid()}"  # PyTorch asks for a name


def _replace(variable: str, found: Path) -> Path:
    """Name a folder below PLACES in the environment, and return it."""
    place = PLACES / variable.lower()
    place.mkdir(parents=True, exist_ok=True)
    os.environ[variable] = str(place.absolute())
    print(f"Warning: {found} is missing or cannot be written; {variable} is now {place}.", file=sys.stderr)
    return place.absolute()
