"""A hash of the package code that a result depends on.

Snakemake sees a changed script but not a changed import, so rules carry `code_hash` of the modules they call
in `params:`. Modules are parsed, never imported: no torch is needed.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def code_hash(*modules: str) -> str:
    """A sha256 over `modules`, given as `aftershock.room.module`, and all they import inside the package.

    `aftershock.room` stands for all modules of the room. Comments, docstrings and layout do not count.
    Modules named in data, such as an editor in the table of methods, are invisible to it and have to be
    passed. ValueError when a module has no file.
    """
    digest = hashlib.sha256()
    named = [part for name in modules for part in _parts(name)]
    for module in sorted(_closure(named)):
        digest.update(f"{module} {_module_hash(module)}\n".encode())
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


@cache
def _tree(module: str) -> ast.Module:
    file = _file(module)
    if file is None:
        raise ValueError(f"code_hash: no file of module {module!r} in {PACKAGE}")
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of the package that `module` imports anywhere in its code, and the packages they lie in."""
    names = {name for node in ast.walk(_tree(module)) for name in _imported(node, module)}
    names.add(module.rpartition(".")[0])
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE.name)


def _imported(node: ast.AST, module: str) -> Iterator[str]:
    """Full names of what one import statement may load; a name taken from a module is left out."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parts, *([node.module] if node.module else [])])
        yield base
        yield from (name for alias in node.names if _file(name := f"{base}.{alias.name}"))


@cache
def _module_hash(module: str) -> str:
    tree = _tree(module)
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
