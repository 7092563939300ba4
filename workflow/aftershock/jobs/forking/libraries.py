"""The libraries that a script imports before it does anything, found without importing it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from aftershock.project import PACKAGE


@cache
def imported_libraries(script: str) -> frozenset[str]:
    """Return the libraries that a file imports when it is run, itself or through modules of ours."""
    found: set[str] = set()
    waiting, seen = [Path(script)], set[Path]()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            ours, libraries = _imports(file)
            waiting += ours
            found |= libraries
    return frozenset(found)


@cache
def _imports(file: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Return the files of ours and the libraries that a file imports by itself."""
    named = {tuple(name.split(".")) for node in ast.parse(file.read_bytes()).body for name in _names(node)}
    inner = {parts for parts in named if parts[0] == PACKAGE.name}
    ours = {parts[:depth] for parts in inner for depth in range(1, len(parts) + 1)}
    paths = [PACKAGE.parent.joinpath(*parts) for parts in ours]
    files = {file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py")}
    return frozenset(filter(Path.is_file, files)), frozenset(parts[0] for parts in named - inner)


def _names(node: ast.stmt) -> Iterator[str]:
    """Yield what a statement imports: modules, and what may be modules in them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
