"""The libraries that a script imports before it does anything, found without importing it."""

import ast
from collections.abc import Iterator
from functools import cache

from aftershock.parsed_code import PACKAGE, file_of


@cache
def imported_libraries(script: str) -> frozenset[str]:
    """Return the libraries that a file imports when it is run, itself or through modules of ours."""
    found: set[str] = set()
    waiting, seen = [script], set()
    while waiting:
        module = waiting.pop()
        if module not in seen and file_of(module):
            seen.add(module)
            ours, libraries = _imports(module)
            waiting += ours
            found |= libraries
    return frozenset(found)


@cache
def _imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return what may be modules of ours, and the libraries, that a module imports by itself."""
    file = file_of(module)
    assert file is not None
    named = {name for node in ast.parse(file.read_bytes()).body for name in _names(node)}
    ours = {name for name in named if name.split(".")[0] == PACKAGE.name}
    outer = {
        ".".join(parts[:depth])
        for name in ours
        if (parts := name.split("."))
        for depth in range(1, len(parts))
    }
    return frozenset(ours | outer), frozenset(name.split(".")[0] for name in named - ours)


def _names(node: ast.stmt) -> Iterator[str]:
    """Yield what a statement imports: modules, and what may be modules in them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
