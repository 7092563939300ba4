"""A hash of the code that a result depends on.

Snakemake sees neither a changed import nor that a changed line cannot matter, so rules carry the `code_hash`
of their script in `params:`. It covers the definitions (functions, classes, constants) that the script needs,
directly or through others, and no other definition of the modules that these lie in. Code is parsed, never
imported: no torch is needed, and what was parsed is kept between runs. Code that is named in data, such as a
method's editor, has to be given by name.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from aftershock.output import write_text
from aftershock.project import PACKAGE

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
KEPT = (PACKAGE / "__pycache__" / "parsed_modules.json", Path(".snakemake") / "parsed_modules.json")
"""Caches beside Python's own, or in a run's folder where the package's cannot be written."""
EFFECTS = "<statements>"  # of a module, beside its definitions
IMPORTED = "<import>"

Symbol = tuple[str, str]
"""A module and a name that it defines."""


def code_hash(*roots: str) -> str:
    """Return a sha256 over all definitions that `roots` need.

    A root is a definition (`aftershock.lm.scoring:score`), a whole module (`aftershock.lm.scoring`), a
    package with all its modules (`aftershock.page`), or the path of a Python file, of a package's
    `__init__.py` with all files of its folder. Comments, docstrings, layout, annotations of functions and
    CANNOT_CHANGE_RESULTS do not count. ValueError when a module or definition does not exist.
    """
    digest = hashlib.sha256()
    named = {(portable(m), name, parse_module(m)["names"][name][0]) for m, name in needed_symbols(*roots)}
    for module, name, content in sorted(named):
        digest.update(f"{module}:{name} {content}\n".encode())
    return digest.hexdigest()


def needed_symbols(*roots: str) -> set[Symbol]:
    """The definitions that `roots` are and need, directly or through others."""
    waiting, found = [symbol for root in roots for symbol in _symbols_of(root)], set[Symbol]()
    while waiting:
        if (symbol := waiting.pop()) not in found:
            found.add(symbol)
            waiting.extend(_needed(*symbol))
    return found


def _symbols_of(root: str) -> set[Symbol]:
    module, _, name = root.partition(":")
    file = Path(root) if root.endswith(".py") else file_of(module)
    if name and name not in parse_module(module)["names"]:
        raise ValueError(f"code_hash: no definition {name!r} in module {module!r}")
    if name:
        return {(module, name)}
    if file is None or file.name != "__init__.py":
        return _all_of(root)
    files = sorted(file.parent.rglob("*.py"))
    if root.endswith(".py"):
        return set().union(*map(_all_of, map(str, files)))
    parts = (path.relative_to(file.parent).with_suffix("").parts for path in files)
    modules = [".".join((module, *below)).removesuffix(".__init__") for below in parts]
    return set().union(*map(_all_of, modules))


def _all_of(module: str) -> set[Symbol]:
    return {(module, name) for name in parse_module(module)["names"]}


# --- what a definition needs ------------------------------------------------------------------------------


@cache
def _needed(module: str, name: str) -> set[Symbol]:
    """Return the definitions that one needs directly, and statements that run when its module is imported."""
    found = set().union(*(_resolve(module, used) for used in parse_module(module)["names"][name][1]))
    parts = () if module.endswith(".py") else module.split(".")
    outers = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    effects = ((outer, EFFECTS) for outer in outers if _counts(outer))
    return found | {(outer, each) for outer, each in effects if each in parse_module(outer)["names"]}


def _resolve(module: str, reference: str) -> set[Symbol]:
    """Return the definitions that a dotted name or an import stands for inside `module`."""
    parsed, (first, *rest) = parse_module(module), reference.split(".")
    if reference.startswith(IMPORTED):
        source, _, name = reference.removeprefix(IMPORTED).partition(":")
        return _of_import(source, name)
    if first in parsed["names"]:
        return {(module, first)}
    return _of_import(*parsed["imports"][first], *rest) if first in parsed["imports"] else set()


def _of_import(source: str, name: str, *rest: str) -> set[Symbol]:
    """Return the definitions behind `from source import name`, or `import source`, followed by `.rest`."""
    parts = [*([name] if name else []), *rest]
    while parts and file_of(f"{source}.{parts[0]}"):
        source, parts = f"{source}.{parts[0]}", parts[1:]
    if not file_of(source) or not _counts(source):
        return set()
    parsed = parse_module(source)
    if parts and parts[0] in parsed["names"]:
        return {(source, parts[0])}
    if parts and parts[0] in parsed["imports"]:
        return _of_import(*parsed["imports"][parts[0]], *parts[1:])
    return _all_of(source)  # the module itself, as a value


def _counts(module: str) -> bool:
    entries = CANNOT_CHANGE_RESULTS["modules"]
    return not any(module == e or (e.endswith(".*") and f"{module}.".startswith(e[:-1])) for e in entries)


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


# --- the definitions of a module --------------------------------------------------------------------------

_kept: dict[str, dict[str, Any]] = {}  # parsed modules, by their name, Python and content
_known: set[str] = set()  # of these, those in a file
_PARSER = Path(__file__).read_bytes()


@cache
def parse_module(module: str) -> dict[str, Any]:
    """Return what a module of ours, or the file at a path, defines and imports; ValueError without one.

    names: for each definition a hash of its code and the names that it uses. imports: the module and the name
    in it (empty for the module itself) behind each name that it imports.
    """
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
        _kept[key] = _parse(_Cleaner().visit(ast.parse(text, filename=str(file))), package)
    return _kept[key]


def _parse(tree: ast.Module, package: str) -> dict[str, Any]:
    imports: dict[str, list[str]] = {}
    parts: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        typing_only = isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")
        if typing_only or isinstance(statement, ast.Import | ast.ImportFrom):
            imports |= {alias: [source, name] for alias, source, name in _imported(statement, package)}
            continue
        for name in _defined(statement) or (EFFECTS,):
            parts.setdefault(name, []).append(statement)
    names = {name: _definition(statements, package) for name, statements in parts.items()}
    return {"names": names, "imports": imports}


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a statement defines; one that fills `NAME[key]` adds to NAME's definition."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [statement.name]
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return []
    parts = [part for target in targets for part in getattr(target, "elts", [target])]
    for i, base in enumerate(parts):
        while isinstance(base, ast.Attribute | ast.Subscript | ast.Starred):
            base = parts[i] = base.value
    return [part.id for part in parts] if all(isinstance(part, ast.Name) for part in parts) else []


def _definition(statements: list[ast.stmt], package: str) -> list[Any]:
    digest, references = hashlib.sha256(), set()
    for statement in statements:
        digest.update(ast.dump(statement).encode())
        references |= set(_references(statement))
        references |= {f"{IMPORTED}{source}:{name}" for _, source, name in _imported(statement, package)}
    return [digest.hexdigest(), sorted(references)]


def _references(node: ast.AST) -> Iterator[str]:
    """Yield every name that is read below `node`, with the attributes that follow it."""
    if dotted := _dotted(node):
        yield dotted
    else:
        for child in ast.iter_child_nodes(node):
            yield from _references(child)


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value)):
        return f"{base}.{node.attr}"
    return None


def _imported(statement: ast.AST, package: str) -> Iterator[tuple[str, str, str]]:
    """Yield local name, module and name in it, of what is imported of ours in a statement."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            tops = [(alias.name.split(".")[0], alias) for alias in node.names]
            found = [(a.asname or top, a.name if a.asname else top, "") for top, a in tops]
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*outer, *([node.module] if node.module else [])])
            found = [(alias.asname or alias.name, base, alias.name) for alias in node.names]
        else:
            continue
        yield from (each for each in found if each[1].split(".")[0] == PACKAGE.name)


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
        return node if node.body or node.orelse or not _dotted(node.test) else None

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


# --- between runs -----------------------------------------------------------------------------------------


def _read_kept() -> None:
    """Read what was parsed before; a file that cannot be read is written anew."""
    for file in KEPT:
        with suppress(OSError, ValueError, TypeError):
            _kept.update(json.loads(file.read_text(encoding="utf-8")))
    _known.update(_kept)


def keep_parsed() -> None:
    """Write down what was parsed for the next start; full or read-only disks are no reason to stop."""
    for file in KEPT if set(_kept) - _known else ():
        with suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            write_text(file, json.dumps(_kept))
            _known.update(_kept)
            return
