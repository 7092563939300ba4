"""Folders outside the project that a run writes to, and the name of its user: replaced where there are none.

Containers and clusters have users without a name, homes that are missing or read-only, and full temporary
folders, on which Snakemake, PyTorch, matplotlib and the Hub's library end with errors of their own.
"""

import getpass
import os
import sys
import tempfile
from pathlib import Path

OWN = Path(".snakemake") / "places"
"""Folder below the working directory, which a run writes to anyway."""


def user_name() -> str:
    """Return the name of the user, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}"


def find_places() -> None:
    """Name folders of the project in the environment for those that are missing or cannot be written.

    Everything that this process starts inherits them. A line on the terminal names each.
    """
    home = Path(os.path.expanduser("~"))
    if not (home.is_dir() and home.is_absolute()):
        home = _replace("HOME", home, "home")
    for variable, usual, name in (
        ("XDG_CACHE_HOME", home / ".cache", "cache"),
        ("MPLCONFIGDIR", Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"), "matplotlib"),
        ("TMPDIR", _usual_temporary(), "tmp"),
    ):
        place = Path(os.environ.get(variable) or usual)
        if not _takes_files(place):
            _replace(variable, place, name)
    tempfile.tempdir = None  # look again
    if user_name() == f"user {os.getuid()}":
        os.environ["LOGNAME"] = f"user{os.getuid()}"  # PyTorch asks for a name


def _replace(variable: str, found: Path, name: str) -> Path:
    """Name a folder below OWN in the environment, and return it."""
    place = (OWN / name).absolute()
    place.mkdir(parents=True, exist_ok=True)
    os.environ[variable] = str(place)
    print(
        f"Warning: {found} is missing or cannot be written; {variable} is now {OWN / name}.", file=sys.stderr
    )
    return place


def _usual_temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError:  # none of the usual folders can be written
        return Path("/tmp")


def _takes_files(folder: Path) -> bool:
    """True if a non-empty file can be written in a folder, which is created where missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"some")
            file.flush()
    except OSError:
        return False
    return True
