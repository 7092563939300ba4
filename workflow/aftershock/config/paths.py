"""Paths in a configuration, which are relative to the working directory or to the project."""

from collections.abc import Iterator
from pathlib import Path


def path_errors(key: str, path: str, folder: Path, kind: str = "file") -> Iterator[str]:
    """Yield that there is nothing at a path, or something else than a `kind`: file or folder."""
    found = next((each for each in (Path(path), folder / path) if each.exists()), None)
    if found is None:
        yield f"{key}: there is no {path!r}; a path is relative to the working directory"
    elif not (found.is_dir() if kind == "folder" else found.is_file()):
        yield f"{key}: {path!r} is no {kind}; name one"
