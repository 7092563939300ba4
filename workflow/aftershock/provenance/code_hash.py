"""A hash of the code that a result depends on.

Snakemake sees neither a changed import nor that a changed line cannot matter, so rules carry the `code_hash`
of their script in `params:`. It covers the definitions (functions, classes, constants) that the script needs,
directly or through others, and no other definition of the modules that these lie in. Code is parsed, never
imported: no torch is needed. Code that is named in data, such as a method's editor, has to be given by name.
"""

import ast
import gc
import hashlib
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

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
EFFECTS = "<statements>"  # of a module, beside its definitions
IMPORTS = (ast.Import, ast.ImportFrom)
NOT_CODE = ("ctx", "kind", "returns", "type_comment")  # parts of syntax trees


class Definition(NamedTuple):
    """A name of a module: a hash of its code, "" where it is imported, and the dotted names behind it."""

    content: str
    names: set[str]


Symbol = tuple[Path, str]
"""A file and a name that it defines."""


def code_hash(*roots: str) -> str:
    """Return a sha256 over all definitions that `roots` need.

    A root is a definition (`aftershock.lm.scoring:score`), a whole module (`aftershock.lm.scoring`), a
    package with all its modules (`aftershock.page`), or the path of a Python file, of a package's
    `__init__.py` with all files of its folder. Comments, docstrings, layout, annotations of functions and
    CANNOT_CHANGE_RESULTS do not count. ValueError when a module or definition does not exist.
    """
    enabled = gc.isenabled()
    gc.disable()  # syntax trees have no cycles, and searching for some takes three quarters of the time
    try:
        needed = needed_symbols(*roots)
    finally:
        if enabled:
            gc.enable()
    contents = {(name_of(file), name, parse_module(file)[name].content) for file, name in needed}
    return hashlib.sha256(repr(sorted(contents)).encode()).hexdigest()


def needed_symbols(*roots: str) -> set[Symbol]:
    """Return the definitions that `roots` are and need, directly or through others."""
    waiting, found = [symbol for root in roots for symbol in _symbols_of(root)], set[Symbol]()
    while waiting:
        if (symbol := waiting.pop()) not in found:
            found.add(symbol)
            waiting.extend(_needed(*symbol))
    return {(file, name) for file, name in found if parse_module(file)[name].content}


def _symbols_of(root: str) -> set[Symbol]:
    module, _, name = root.partition(":")
    file = Path(module) if module.endswith(".py") else file_of(module)
    if file is None or not file.is_file():
        raise ValueError(f"code_hash: no file of module {module!r} in {PACKAGE}")
    if name and name not in parse_module(file):
        raise ValueError(f"code_hash: no definition {name!r} in module {module!r}")
    if name:
        return {(file, name)}
    files = file.parent.rglob("*.py") if file.name == "__init__.py" else [file]
    return {
        (each, defined) for each in files for defined, found in parse_module(each).items() if found.content
    }


# --- the definitions that one needs -----------------------------------------------------------------------


@cache
def _needed(file: Path, name: str) -> set[Symbol]:
    """Return the definitions that one needs directly, and statements that run when its file is imported."""
    found, here = set[Symbol](), parse_module(file)
    for used in here[name].names:
        first = used.partition(".")[0]
        if first in here:
            found.add((file, first))
        elif first == PACKAGE.name:
            found |= _resolve(used)
    run = {each for each in (file, *_packages(file)) if _counts(name_of(each))}
    return found | {(each, EFFECTS) for each in run if EFFECTS in parse_module(each)}


def _resolve(dotted: str) -> set[Symbol]:
    """Return the definition behind a name such as `aftershock.lm.scoring.score`, or all of a module."""
    module, last = dotted, ""
    while (file := file_of(module)) is None:
        module, _, last = module.rpartition(".")
    if not _counts(module):
        return set()
    return {(file, name) for name in ([last] if last in parse_module(file) else parse_module(file))}


@cache
def _counts(module: str) -> bool:
    entries = CANNOT_CHANGE_RESULTS["modules"]
    return not any(module == e or (e.endswith(".*") and f"{module}.".startswith(e[:-1])) for e in entries)


@cache
def file_of(module: str) -> Path | None:
    """Return the file of a module or package of ours, None when there is none."""
    top, *parts = module.split(".")
    path = PACKAGE.joinpath(*parts)
    candidates = (path / "__init__.py", path.with_suffix(".py")) if top == PACKAGE.name else ()
    return next((each for each in candidates if each.is_file()), None)


@cache
def name_of(file: Path) -> str:
    """Return the dotted name of a file of ours, and of another its name alone, wherever it lies."""
    if not _packages(file):
        return file.name
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def _packages(file: Path) -> list[Path]:
    """Return the `__init__.py` of each package of ours that a file lies in, from the inside."""
    files = (folder / "__init__.py" for folder in file.parents if folder.is_relative_to(PACKAGE))
    return list(takewhile(Path.is_file, files))


# --- the definitions of a module --------------------------------------------------------------------------


@cache
def parse_module(file: Path) -> dict[str, Definition]:
    """Return the names of a file: those that it defines, EFFECTS, and those that it imports from us."""
    package = name_of(file.parent / "__init__.py")
    imports: dict[str, str] = {}
    parts: dict[str, list[ast.stmt]] = {}
    for statement in ast.parse(file.read_bytes(), filename=str(file)).body:
        if isinstance(statement, IMPORTS):
            imports |= _imported(statement, package)
        elif not _is_silent(statement):
            for name in _defined(statement) or (EFFECTS,):
                parts.setdefault(name, []).append(statement)
    found = {name: Definition("", {dotted}) for name, dotted in imports.items()}
    for name, statements in parts.items():
        names = set[str]()
        content = repr(_content(statements, names, package))
        found[name] = Definition(hashlib.sha256(content.encode()).hexdigest(), names)
    return found


def _defined(statement: ast.stmt) -> set[str]:
    """Return the names that a statement defines; one that fills `NAME[key]` adds to NAME's definition."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return set()
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _content(part: Any, names: set[str], package: str) -> Any:
    """Return what counts of a part of a syntax tree as nested lists, and add what it reads to `names`."""
    if isinstance(part, list):
        return [_content(each, names, package) for each in part if not _is_silent(each)]
    if not isinstance(part, ast.AST):
        return part
    if dotted := _dotted(part):
        names.add(dotted)
        return dotted
    if isinstance(part, IMPORTS):
        names.update(_imported(part, package).values())
    found = [type(part).__name__]
    for field in part._fields:
        if field not in NOT_CODE and not (field == "annotation" and isinstance(part, ast.arg)):
            found.append(_content(getattr(part, field), names, package))
    return found


def _is_silent(part: Any) -> bool:
    """True for docstrings, and for statements and arguments that cannot change a result."""
    if isinstance(part, ast.keyword):
        return part.arg in CANNOT_CHANGE_RESULTS["keywords"]
    if isinstance(part, ast.If | ast.For):
        about = _dotted(part.test if isinstance(part, ast.If) else part.iter)
        of_types = about in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        return of_types or bool(about) and all(map(_is_silent, (*part.body, *part.orelse)))
    if not isinstance(part, ast.Expr):
        return False
    if isinstance(part.value, ast.Constant):
        return isinstance(part.value.value, str)
    called = _dotted(part.value.func) if isinstance(part.value, ast.Call) else None
    return bool(set((called or "").split(".")) & set(CANNOT_CHANGE_RESULTS["statements"]))


def _dotted(node: ast.AST) -> str | None:
    """Return a name with the attributes that follow it, None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value)):
        return f"{base}.{node.attr}"
    return None


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> dict[str, str]:
    """Return the dotted name of ours behind each name that an import in `package` gives."""
    if isinstance(node, ast.Import):
        found = {each.asname: each.name for each in node.names if each.asname}
    else:
        outer = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
        base = ".".join(filter(None, (*outer, node.module)))
        found = {each.asname or each.name: f"{base}.{each.name}" for each in node.names}
    return {name: dotted for name, dotted in found.items() if dotted.split(".")[0] == PACKAGE.name}
