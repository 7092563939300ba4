"""A hash of the code that a result depends on.

Snakemake sees neither a changed import nor that a changed line cannot matter, so rules carry the `code_hash`
of their script in `params:`. It covers the definitions (functions, classes, constants) that the script needs,
directly or through others, and no other definition of the modules that these lie in. Code is parsed, never
imported: no torch is needed. Code that is named in data, such as a method's editor, has to be given by name.
"""

import hashlib
from functools import cache
from pathlib import Path

from aftershock.provenance.parsed_code import (
    CANNOT_CHANGE_RESULTS,
    EFFECTS,
    IMPORTED,
    file_of,
    parse_module,
    portable,
)


def code_hash(*roots: str) -> str:
    """Return a sha256 over all definitions that `roots` need.

    A root is a definition (`aftershock.lm.scoring:score`), a whole module (`aftershock.lm.scoring`), a
    package with all its modules (`aftershock.page`), or the path of a Python file, of a package's
    `__init__.py` with all files of its folder. Comments, docstrings, layout, annotations of functions and
    CANNOT_CHANGE_RESULTS do not count. ValueError when a module or definition does not exist.
    """
    digest = hashlib.sha256()
    waiting = [symbol for root in roots for symbol in _symbols_of_root(root)]
    found: set[tuple[str, str]] = set()
    while waiting:
        symbol = waiting.pop()
        if symbol not in found:
            found.add(symbol)
            waiting.extend(_needed(*symbol))
    named = {(portable(module), name, parse_module(module).names[name].digest) for module, name in found}
    for module, name, content in sorted(named):
        digest.update(f"{module}:{name} {content}\n".encode())
    return digest.hexdigest()


def _symbols_of_root(root: str) -> list[tuple[str, str]]:
    if root.endswith(".py"):
        file = Path(root)
        files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
        return [symbol for path in files for symbol in _all_of(str(path))]
    module, _, name = root.partition(":")
    if name:
        if name not in parse_module(module).names:
            raise ValueError(f"code_hash: no definition {name!r} in module {module!r}")
        return [(module, name)]
    home = file_of(module)
    if home is None or home.name != "__init__.py":
        return _all_of(module)
    below = (path.relative_to(home.parent).with_suffix("").parts for path in home.parent.rglob("*.py"))
    parts = [module, *(".".join((module, *parts)) for parts in below if parts[-1] != "__init__")]
    return [symbol for part in sorted(parts) for symbol in _all_of(part)]


def _all_of(module: str) -> list[tuple[str, str]]:
    return [(module, name) for name in parse_module(module).names]


# --- what a definition needs ------------------------------------------------------------------------------


@cache
def _needed(module: str, name: str) -> tuple[tuple[str, str], ...]:
    """Return the definitions that one needs directly, and statements that run when its module is imported."""
    parsed = parse_module(module)
    found: set[tuple[str, str]] = set()
    for reference in parsed.names[name].references:
        found |= _resolve(module, reference)
    if module.endswith(".py"):
        return tuple(sorted(found))
    packages = module.split(".")
    for depth in range(1, len(packages) + 1):
        outer = ".".join(packages[:depth])
        if _counts(outer) and EFFECTS in parse_module(outer).names:
            found.add((outer, EFFECTS))
    return tuple(sorted(found))


def _resolve(module: str, reference: str) -> set[tuple[str, str]]:
    """Return the definitions that a dotted name or an import stands for inside `module`."""
    parsed, (first, *rest) = parse_module(module), reference.split(".")
    if reference.startswith(IMPORTED):
        source, _, name = reference.removeprefix(IMPORTED).partition(":")
        return _of_import(source, name, [])
    if first in parsed.names:
        return {(module, first)}
    if first in parsed.imports:
        source, name = parsed.imports[first]
        return _of_import(source, name, rest)
    return set()


def _of_import(source: str, name: str, rest: list[str]) -> set[tuple[str, str]]:
    """Return the definitions behind `from source import name`, or `import source`, followed by `.rest`."""
    parts = [*([name] if name else []), *rest]
    while parts and file_of(f"{source}.{parts[0]}"):
        source, parts = f"{source}.{parts[0]}", parts[1:]
    if not file_of(source) or not _counts(source):
        return set()
    if not parts:  # the module itself, as a value
        return set(_all_of(source))
    parsed = parse_module(source)
    if parts[0] in parsed.names:
        return {(source, parts[0])}
    if parts[0] in parsed.imports:
        further, original = parsed.imports[parts[0]]
        return _of_import(further, original, parts[1:])
    return set(_all_of(source))


def _counts(module: str) -> bool:
    return not any(
        module == entry or (entry.endswith(".*") and f"{module}.".startswith(entry[:-1]))
        for entry in CANNOT_CHANGE_RESULTS["modules"]
    )
