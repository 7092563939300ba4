"""A hash of the code that a result depends on.

Snakemake sees neither a changed import nor that a changed line cannot matter, so rules carry the `code_hash`
of their script in `params:`. It covers the definitions (functions, classes, constants) that the script needs,
directly or through others, and no other definition of the modules that these lie in. Code is parsed, never
imported: no torch is needed. Code that is named in data, such as a method's editor, has to be given by name.
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

PACKAGE = Path(__file__).parent
KEPT = Path(".snakemake") / "parsed_modules.json"

CANNOT_CHANGE_RESULTS = {
    "modules": (
        "aftershock.code_hash",
        "aftershock.datasets.table",  # rules give the entry that a job works on in its `params:`
        "aftershock.editors.artifacts",  # as are these: which editor, and what loads its artifacts
        "aftershock.editors.checks",
        "aftershock.editors.importing",
        "aftershock.editors.methods",
        "aftershock.jobs.*",
        "aftershock.lock",
        "aftershock.offline",
        "aftershock.output",
        "aftershock.process",
        "aftershock.progress",
        "aftershock.stage",
        "aftershock.tables",  # reading and writing; the tables themselves are in its modules, and count
    ),
    "statements": (
        "logger",
        "logging",
        "print",
        "progress",
        "warnings",
    ),  # calls of, or of something in, these
    "keywords": ("console", "progress"),  # arguments of calls
}
"""All code that does not count: how a job is run, watched, recorded and written down, and what it says."""


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
    named = {(_portable(module), name, _parsed(module).names[name].digest) for module, name in found}
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
        if name not in _parsed(module).names:
            raise ValueError(f"code_hash: no definition {name!r} in module {module!r}")
        return [(module, name)]
    file = _file(module)
    if file is None or file.name != "__init__.py":
        return _all_of(module)
    below = (path.relative_to(file.parent).with_suffix("").parts for path in file.parent.rglob("*.py"))
    parts = [module, *(".".join((module, *parts)) for parts in below if parts[-1] != "__init__")]
    return [symbol for part in sorted(parts) for symbol in _all_of(part)]


def _all_of(module: str) -> list[tuple[str, str]]:
    return [(module, name) for name in _parsed(module).names]


def _portable(module: str) -> str:
    """The name of a module, without the folder where a file given by its path happens to lie."""
    return Path(module).name if module.endswith(".py") else module


def _file(module: str) -> Path | None:
    """Return the file of a module or package of ours, None when there is none."""
    if module.endswith(".py"):
        return Path(module) if Path(module).is_file() else None
    top, *parts = module.split(".")
    path = PACKAGE.joinpath(*parts)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((c for c in candidates if c.is_file()), None) if top == PACKAGE.name else None


# --- what a definition needs ------------------------------------------------------------------------------


@cache
def _needed(module: str, name: str) -> tuple[tuple[str, str], ...]:
    """Return the definitions that one needs directly, and statements that run when its module is imported."""
    parsed = _parsed(module)
    found: set[tuple[str, str]] = set()
    for reference in parsed.names[name].references:
        found |= _resolve(module, reference)
    if module.endswith(".py"):
        return tuple(sorted(found))
    packages = module.split(".")
    for depth in range(1, len(packages) + 1):
        outer = ".".join(packages[:depth])
        if _counts(outer) and EFFECTS in _parsed(outer).names:
            found.add((outer, EFFECTS))
    return tuple(sorted(found))


def _resolve(module: str, reference: str) -> set[tuple[str, str]]:
    """Return the definitions that a dotted name or an import stands for inside `module`."""
    parsed, (first, *rest) = _parsed(module), reference.split(".")
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
    while parts and _file(f"{source}.{parts[0]}"):
        source, parts = f"{source}.{parts[0]}", parts[1:]
    if not _file(source) or not _counts(source):
        return set()
    if not parts:  # the module itself, as a value
        return set(_all_of(source))
    parsed = _parsed(source)
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


# --- parsing ----------------------------------------------------------------------------------------------

EFFECTS = "<statements>"  # of a module, beside its definitions
IMPORTED = "<import>"


@dataclass(frozen=True)
class _Definition:
    """A hash of one definition's code, and the names that it uses."""

    digest: str
    references: list[str]


@dataclass(frozen=True)
class _Module:
    """The definitions of a module, and the module and name behind each name that it imports."""

    names: dict[str, _Definition]
    imports: dict[str, tuple[str, str]]


_kept: dict[str, _Module] = {}  # by module, Python and content
_known: set[str] = set()  # of these, those in the working directory's file


@cache
def _parsed(module: str) -> _Module:
    file = _file(module)
    if file is None:
        raise ValueError(f"code_hash: no file of module {module!r} in {PACKAGE}")
    if not _known:
        _read_kept()
    text = file.read_bytes()
    about = (_portable(module), *sys.version_info[:2], hashlib.sha256(text + _LIST).hexdigest())
    key = " ".join(map(str, about))
    if key not in _kept:
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        _kept[key] = _parse(_cleaned(ast.parse(text, filename=str(file))), package)
    return _kept[key]


_LIST = json.dumps(CANNOT_CHANGE_RESULTS).encode()


def _parse(tree: ast.Module, package: str) -> _Module:
    imports: dict[str, tuple[str, str]] = {}
    parts: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_typing_only(statement):
            for node in ast.walk(statement):
                imports |= {alias: found for alias, *found in _imported(node, package)}
            continue
        for name in _defined(statement) or (EFFECTS,):
            parts.setdefault(name, []).append(statement)
    names = {name: _definition(statements, package) for name, statements in parts.items()}
    ours = {alias: tuple(found) for alias, found in imports.items() if _is_ours(found[0])}
    return _Module(names, ours)


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


def _definition(statements: Iterable[ast.stmt], package: str) -> _Definition:
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
    return _Definition(digest.hexdigest(), sorted(references))


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
    """Read what was parsed before in this working directory; a file that cannot be read is written anew."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        for key, module in json.loads(KEPT.read_text(encoding="utf-8")).items():
            names = {name: _Definition(**part) for name, part in module["names"].items()}
            imports = {alias: tuple(found) for alias, found in module["imports"].items()}
            _kept[key] = _Module(names, imports)
    _known.update(_kept)


def keep_parsed() -> None:
    """Write down what was parsed, so that the next start is faster; a full or read-only disk is no reason to
    stop."""
    if set(_kept) - _known:
        with suppress(OSError):
            KEPT.parent.mkdir(exist_ok=True)
            write_text(KEPT, json.dumps({key: asdict(parsed) for key, parsed in _kept.items()}))
            _known.update(_kept)
