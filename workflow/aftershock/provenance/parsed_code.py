"""The definitions of a module, each with a hash of its code and the names that it uses.

Modules are parsed, never imported, and what was parsed is kept between runs.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from aftershock.output import write_text
from aftershock.project import PACKAGE

KEPT = (PACKAGE / "__pycache__" / "parsed_modules.json", Path(".snakemake") / "parsed_modules.json")
"""Caches beside Python's own, or in a run's folder where the package's cannot be written."""

CANNOT_CHANGE_RESULTS = {
    "modules": (
        "aftershock.datasets.table",  # rules give the entry that a job works on in its `params:`
        "aftershock.editors.artifacts",  # likewise: the editor, and the loaders of its artifacts
        "aftershock.editors.checks",
        "aftershock.editors.importing",
        "aftershock.editors.methods",
        "aftershock.editors.regularisers",  # as are these, with all their settings
        "aftershock.jobs.*",
        "aftershock.lock",
        "aftershock.offline",
        "aftershock.output",
        "aftershock.process",
        "aftershock.progress",
        "aftershock.project",
        "aftershock.provenance.*",
        "aftershock.stage",
        "aftershock.tables",  # reading and writing; the tables themselves are in its modules, and count
    ),
    # statements that call one of these, or something in it
    "statements": ("logger", "logging", "print", "progress", "warnings"),
    "keywords": ("console", "progress"),  # arguments of calls
}
"""Code that does not change results: running, watching, recording and reporting of jobs."""


def portable(module: str) -> str:
    """The name of a module, without the folder where a file given by its path happens to lie."""
    return Path(module).name if module.endswith(".py") else module


def file_of(module: str) -> Path | None:
    """Return the file of a module or package of ours, None when there is none."""
    if module.endswith(".py"):
        return Path(module) if Path(module).is_file() else None
    top, *parts = module.split(".")
    path = PACKAGE.joinpath(*parts)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((c for c in candidates if c.is_file()), None) if top == PACKAGE.name else None


EFFECTS = "<statements>"  # of a module, beside its definitions
IMPORTED = "<import>"


@dataclass(frozen=True)
class Definition:
    """A hash of one definition's code, and the names that it uses."""

    digest: str
    references: list[str]


@dataclass(frozen=True)
class Module:
    """The definitions of a module, and the module and name behind each name that it imports."""

    names: dict[str, Definition]
    imports: dict[str, tuple[str, str]]


_kept: dict[str, Module] = {}  # by module, Python and content
_known: set[str] = set()  # of these, those in a file


@cache
def parse_module(module: str) -> Module:
    """Return what a module of ours, or the file at a path, defines and imports; ValueError without one."""
    file = file_of(module)
    if file is None:
        raise ValueError(f"code_hash: no file of module {module!r} in {PACKAGE}")
    if not _known:
        _read_kept()
    text = file.read_bytes()
    of_module = "{} {}.{} ".format(portable(module), *sys.version_info[:2])
    key = of_module + hashlib.sha256(text + _PARSER).hexdigest()
    if key not in _kept:
        for old in [old for old in _kept if old.startswith(of_module)]:
            del _kept[old]
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        _kept[key] = _parse(_cleaned(ast.parse(text, filename=str(file))), package)
    return _kept[key]


_PARSER = Path(__file__).read_bytes()


def _parse(tree: ast.Module, package: str) -> Module:
    imports: dict[str, tuple[str, str]] = {}
    parts: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_typing_only(statement):
            for node in ast.walk(statement):
                imports |= {alias: (home, name) for alias, home, name in _imported(node, package)}
            continue
        for name in _defined(statement) or (EFFECTS,):
            parts.setdefault(name, []).append(statement)
    names = {name: _definition(statements, package) for name, statements in parts.items()}
    ours = {alias: found for alias, found in imports.items() if _is_ours(found[0])}
    return Module(names, ours)


def _is_typing_only(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE.name


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a statement defines; one that fills `NAME[key]` adds to NAME's definition."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    found = []
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            base = part
            while isinstance(base, ast.Attribute | ast.Subscript | ast.Starred):
                base = base.value
            if not isinstance(base, ast.Name):
                return []
            found.append(base.id)
    return found


def _definition(statements: Iterable[ast.stmt], package: str) -> Definition:
    digest, references = hashlib.sha256(), set()
    for statement in statements:
        digest.update(ast.dump(statement).encode())
        references |= set(_references(statement))
        for node in ast.walk(statement):
            references |= {
                f"{IMPORTED}{source}:{name}"
                for _, source, name in _imported(node, package)
                if _is_ours(source)
            }
    return Definition(digest.hexdigest(), sorted(references))


def _references(node: ast.AST) -> Iterator[str]:
    """Yield every name that is read below `node`, with the attributes that follow it."""
    dotted = _dotted(node)
    if dotted:
        yield dotted
        return
    for child in ast.iter_child_nodes(node):
        yield from _references(child)


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value)):
        return f"{base}.{node.attr}"
    return None


def _imported(node: ast.AST, package: str) -> Iterator[tuple[str, str, str]]:
    """Yield local name, module and name in it (empty for the module itself) of an import statement."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0], alias.name if alias.asname else "", ""
            if not alias.asname:
                yield alias.name.split(".")[0], alias.name.split(".")[0], ""
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            outer = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*outer, *([node.module] if node.module else [])])
        yield from ((alias.asname or alias.name, base, alias.name) for alias in node.names)


# --- what does not count ----------------------------------------------------------------------------------


class _Cleaner(ast.NodeTransformer):
    """Removes docstrings, annotations of functions, and CANNOT_CHANGE_RESULTS' statements and arguments."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        called = _dotted(node.value.func) if isinstance(node.value, ast.Call) else None
        silent = set((called or "").split(".")) & set(CANNOT_CHANGE_RESULTS["statements"])
        return None if silent else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        if not node.body and not node.orelse and _dotted(node.test):
            return None
        return node

    def visit_For(self, node: ast.For) -> ast.AST | None:
        self.generic_visit(node)
        return node if node.body or not _dotted(node.iter) else None

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.keywords = [k for k in node.keywords if k.arg not in CANNOT_CHANGE_RESULTS["keywords"]]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node


def _cleaned(tree: ast.Module) -> ast.Module:
    return _Cleaner().visit(tree)


# --- between runs -----------------------------------------------------------------------------------------


def _read_kept() -> None:
    """Read what was parsed before; a file that cannot be read is written anew."""
    for file in KEPT:
        with suppress(OSError, ValueError, TypeError, AttributeError):
            for key, module in json.loads(file.read_text(encoding="utf-8")).items():
                names = {name: Definition(**part) for name, part in module["names"].items()}
                imports = {alias: tuple(found) for alias, found in module["imports"].items()}
                _kept[key] = Module(names, imports)
    _known.update(_kept)


def keep_parsed() -> None:
    """Write down what was parsed, so that the next start is faster; full or read-only disks are no reason to
    stop."""
    if set(_kept) - _known:
        text = json.dumps({key: asdict(parsed) for key, parsed in _kept.items()})
        for file in KEPT:
            with suppress(OSError):
                file.parent.mkdir(exist_ok=True)
                write_text(file, text)
                _known.update(_kept)
                return
