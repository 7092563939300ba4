"""Folders that a run writes to: their names, permissions and free space, and what replaces them.

Containers and clusters have users without a name, homes that are missing or read-only, and full temporary
folders, on which Snakemake, PyTorch, matplotlib and the Hub's library end with errors of their own. For those
outside the project there are others.
"""

import getpass
import os
import re
import sys
import tempfile
from pathlib import Path

PROBE_BYTES = 65536
BRACES = re.compile(r"[{}]")  # which Snakemake takes for the name of a wildcard
SPECIAL = re.compile(r"[^\w@%+=:,./~^-]")  # characters that a shell takes for more than themselves
PLACES = Path(".snakemake") / "places"  # folder of those that replace others


class PreflightError(RuntimeError):
    """Something that would stop a run, with what to do."""


def user_name() -> str:
    """Return the name of the user, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}"


def check_names(*paths: str | os.PathLike, special: re.Pattern[str] = BRACES) -> None:
    """Raise PreflightError for a path with characters that Snakemake or its executor cannot take."""
    for path in map(os.path.abspath, paths):
        if found := sorted(set(special.findall(path))):
            raise PreflightError(
                f"Snakemake cannot work in {path}: {' and '.join(map(repr, found))} in a path means "
                "something else to it. Rename the folder, or move the project to another one"
            )


def check_writable(folder: Path) -> None:
    """Write a small file below `folder`, made where it is missing. Raises PreflightError where that fails."""
    try:
        _write_probe(folder)
    except OSError as error:
        if folder.is_symlink() and not folder.exists():
            link = f"{folder} is a link to {os.readlink(folder)}, which is not there"
            raise PreflightError(f"{link}. Make that folder, or remove the link") from None
        reason = (error.strerror or str(error)).lower()
        raise PreflightError(
            f"{folder}/ cannot be written by {user_name()}: {reason}. Put that right (finished files stay), "
            f"or move {folder}/ to another disk and leave a link in its place"
        ) from None


def _write_probe(folder: Path) -> None:
    """Write a file below a folder, made where it is missing. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as probe:
        probe.write(bytes(PROBE_BYTES))
        probe.flush()
        os.fsync(probe.fileno())


def find_places() -> None:
    """Name folders of the project in the environment for those that are missing or cannot be written.

    Everything that this process starts inherits them. A line on the terminal names each.
    """
    home = Path(os.path.expanduser("~"))
    if not (home.is_dir() and home.is_absolute()):
        home = _replace("HOME", home)
    settings = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    usual_places = {"XDG_CACHE_HOME": home / ".cache", "MPLCONFIGDIR": settings, "TMPDIR": "/tmp"}
    for variable, usual in usual_places.items():
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
