"""A hash of the package code that a result depends on.

Snakemake sees a changed script but not a changed import, so rules carry `code_hash` of the modules they call
in `params:`. Modules are parsed, never imported: no torch is needed.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from aftershock.output import write_text

PACKAGE = Path(__file__).parent
KEPT = Path(".snakemake") / "parsed_modules.json"


def code_hash(*modules: str) -> str:
    """A sha256 over `modules`, given as `aftershock.room.module`, and all they import inside the package.

    `aftershock.room` stands for all modules of the room. Comments, docstrings and layout do not count.
    Modules named in data, such as an editor in the table of methods, are invisible to it and have to be
    passed. ValueError when a module has no file.
    """
    digest = hashlib.sha256()
    named = [part for name in modules for part in _parts(name)]
    for module in sorted(_closure(named)):
        digest.update(f"{module} {_parsed(module).digest}\n".encode())
    return digest.hexdigest()


def _parts(module: str) -> list[str]:
    """The module itself and, of a package, every module in it."""
    file = _file(module)
    if file is None or file.name != "__init__.py":
        return [module]
    below = (path.relative_to(file.parent).with_suffix("").parts for path in file.parent.rglob("*.py"))
    return [module, *(".".join((module, *parts)) for parts in below if parts[-1] != "__init__")]


def _closure(modules: list[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(_imports(module))
    return found


def _file(module: str) -> Path | None:
    """The file of a module or package of ours, None when there is none."""
    top, *parts = module.split(".")
    path = PACKAGE.joinpath(*parts)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((c for c in candidates if c.is_file()), None) if top == PACKAGE.name else None


@dataclass(frozen=True)
class _Parsed:
    """What a module's code hashes to, which modules it imports, and names that it takes from some of these.

    A name may be a module as well; that depends on other files than the module's own.
    """

    digest: str
    modules: list[str]
    names: list[str]


_kept: dict[str, _Parsed] = {}  # by module, Python and content
_known: set[str] = set()  # of these, what the working directory's file has


@cache
def _parsed(module: str) -> _Parsed:
    file = _file(module)
    if file is None:
        raise ValueError(f"code_hash: no file of module {module!r} in {PACKAGE}")
    if not _known:
        _read_kept()
    text = file.read_bytes()
    key = f"{module} {sys.version_info[0]}.{sys.version_info[1]} {hashlib.sha256(text).hexdigest()}"
    if key not in _kept:
        tree = ast.parse(text, filename=str(file))
        found = [pair for node in ast.walk(tree) for pair in _imported(node, module)]
        modules, names = ({name for name, sure in found if sure is which} for which in (True, False))
        modules |= {module.rpartition(".")[0]}
        _kept[key] = _Parsed(_tree_hash(tree), _own(modules), _own(names))
    return _kept[key]


def _own(names: set[str]) -> list[str]:
    return sorted(name for name in names if name.split(".")[0] == PACKAGE.name)


def _read_kept() -> None:
    """What was parsed before in this working directory; a file that cannot be read is written anew."""
    with suppress(OSError, ValueError, TypeError):
        _kept.update({k: _Parsed(*v) for k, v in json.loads(KEPT.read_text(encoding="utf-8")).items()})
    _known.update(_kept)


def keep_parsed() -> None:
    """Write down what was parsed, so that the next start is faster; a full or read-only disk is no reason to
    stop."""
    if set(_kept) - _known:
        with suppress(OSError):
            write_text(KEPT, json.dumps({key: astuple(parsed) for key, parsed in _kept.items()}))
            _known.update(_kept)


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of the package that `module` imports anywhere in its code, and the packages they lie in."""
    parsed = _parsed(module)
    return frozenset([*parsed.modules, *(name for name in parsed.names if _file(name))])


def _imported(node: ast.AST, module: str) -> Iterator[tuple[str, bool]]:
    """Full names of what one import statement loads, and whether each is surely a module."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, True) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parts, *([node.module] if node.module else [])])
        yield base, True
        yield from ((f"{base}.{alias.name}", False) for alias in node.names)


def _tree_hash(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a bare string: a docstring, or one below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
