"""A hash of the code that a result depends on.

Snakemake sees neither a changed import nor that a changed line cannot matter, so rules carry the `code_hash`
of their script in `params:`. It covers the definitions (functions, classes, constants) that the script needs,
directly or through others, and no other definition of the modules that these lie in. Code is parsed, never
imported: no torch is needed. Code that is named in data, such as a method's editor, has to be given by name,
and imports have to be written in full.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from aftershock.project import PACKAGE

CANNOT_CHANGE_RESULTS = {
    "modules": (
        "aftershock.datasets.table",  # rules give the entry that a job works on in its `params:`
        "aftershock.editors.artifacts",  # likewise: the editor, and the loaders of its artifacts
        "aftershock.editors.checks",
        "aftershock.editors.importing",
        "aftershock.editors.methods",
        "aftershock.editors.regularisers",  # as are these, with all their settings
        "aftershock.lock",
        "aftershock.offline",
        "aftershock.output",
        "aftershock.process",
        "aftershock.progress",
        "aftershock.project",
        "aftershock.stage",
        "aftershock.tables",  # reading and writing; the tables themselves are in its modules, and count
    ),
    "packages": ("aftershock.jobs.", "aftershock.provenance."),  # with all that is in them
    # statements that call one of these, or something in it
    "statements": ("logger", "logging", "print", "progress", "warnings"),
    "keywords": ("console", "progress"),  # arguments of calls
}
"""Code that does not change results: running, watching, recording and reporting of jobs."""
EFFECTS = "<statements>"  # of a module, beside its definitions
NOT_CODE = ("ctx", "kind", "returns", "type_comment")  # parts of syntax trees
Symbol = tuple[str, str]
"""A module of ours, or the path of a Python file elsewhere, and a name that it defines."""


def code_hash(*roots: str) -> str:
    """Return a sha256 over all definitions that `roots` need.

    A root is a definition (`aftershock.lm.scoring:score`), a whole module (`aftershock.lm.scoring`), a
    package with all its modules (`aftershock.page`), or the path of a Python file, of a package's
    `__init__.py` with all files of its folder. Comments, docstrings, layout, annotations of functions and
    CANNOT_CHANGE_RESULTS do not count. ValueError when a module or definition does not exist.
    """
    needed = needed_symbols(*roots)
    # a file elsewhere counts by its name alone, wherever it lies
    contents = {(module.rpartition("/")[2], name, parse_module(module)[name][0]) for module, name in needed}
    return hashlib.sha256(repr(sorted(contents)).encode()).hexdigest()


def needed_symbols(*roots: str) -> set[Symbol]:
    """Return the definitions that `roots` are and need, directly or through others."""
    waiting, found = [symbol for root in roots for symbol in _symbols_of(root)], set[Symbol]()
    while waiting:
        if (symbol := waiting.pop()) not in found:
            found.add(symbol)
            waiting.extend(_needed(*symbol))
    return {(module, name) for module, name in found if parse_module(module)[name][0]}


def _symbols_of(root: str) -> set[Symbol]:
    module, _, name = root.partition(":")
    if (file := _file_of(module)) is None:
        raise ValueError(f"code_hash: no file of module {module!r} in {PACKAGE}")
    if name and name not in parse_module(module):
        raise ValueError(f"code_hash: no definition {name!r} in module {module!r}")
    if name:
        return {(module, name)}
    files = file.parent.rglob("*.py") if file.name == "__init__.py" else [file]
    modules = map(str, files) if module.endswith(".py") else map(_module_of, files)
    return {(each, defined) for each in modules for defined, (code, _) in parse_module(each).items() if code}


# --- the definitions that one needs -----------------------------------------------------------------------


@cache
def _needed(module: str, name: str) -> set[Symbol]:
    """Return the definitions that one needs directly, and statements that run when its module is imported."""
    found, here = set[Symbol](), parse_module(module)
    for used in here[name][1]:
        first = used.partition(".")[0]
        if first in here:
            found.add((module, first))
        elif first == PACKAGE.name:
            found |= _resolve(used)
    if _counts(module) and EFFECTS in here:
        found.add((module, EFFECTS))
    return found


def _resolve(dotted: str) -> set[Symbol]:
    """Return the definition behind a name such as `aftershock.lm.scoring.score`, or all of a module."""
    module, last = dotted, ""
    while _file_of(module) is None:
        module, _, last = module.rpartition(".")
    if not _counts(module):
        return set()
    return {(module, name) for name in ([last] if last in parse_module(module) else parse_module(module))}


@cache
def _counts(module: str) -> bool:
    without = CANNOT_CHANGE_RESULTS
    return module not in without["modules"] and not f"{module}.".startswith(without["packages"])


@cache
def _file_of(module: str) -> Path | None:
    """Return the file of a module or package of ours, or at a path; None when there is none."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    ours = (path / "__init__.py", path.with_suffix(".py")) if module.split(".")[0] == PACKAGE.name else ()
    return next(filter(Path.is_file, (Path(module),) if module.endswith(".py") else ours), None)


def _module_of(file: Path) -> str:
    """Return the dotted name of a file of ours."""
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


# --- the definitions of a module --------------------------------------------------------------------------


@cache
def parse_module(module: str) -> dict[str, tuple[str, set[str]]]:
    """Return a hash of the code of each name of a module, and the dotted names that it reads.

    Names are those that it defines, EFFECTS, and those that it imports from us, whose hash is "".
    """
    file = _file_of(module)
    assert file
    found: dict[str, tuple[str, set[str]]] = {}
    parts: dict[str, list[ast.stmt]] = {}
    for statement in ast.parse(file.read_bytes(), filename=str(file)).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found |= {name: ("", {dotted}) for name, dotted in _imported(statement).items()}
        elif not _is_silent(statement):
            for name in _defined(statement) or (EFFECTS,):
                parts.setdefault(name, []).append(statement)
    for name, statements in parts.items():
        names = set[str]()
        content = repr(_content(statements, names))
        found[name] = hashlib.sha256(content.encode()).hexdigest(), names
    return found


def _defined(statement: ast.stmt) -> set[str]:
    """Return the names that a statement defines; one that fills `NAME[key]` adds to NAME's definition."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return set()
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _content(part: Any, names: set[str]) -> Any:
    """Return what counts of a part of a syntax tree as nested lists, and add what it reads to `names`."""
    if isinstance(part, list):
        return [_content(each, names) for each in part if not _is_silent(each)]
    if not isinstance(part, ast.AST):
        return part
    if dotted := _dotted(part):
        names.add(dotted)
        return dotted
    if isinstance(part, ast.Import | ast.ImportFrom):
        names.update(_imported(part).values())
    skipped = (*NOT_CODE, "annotation") if isinstance(part, ast.arg) else NOT_CODE
    fields = [field for field in part._fields if field not in skipped]
    return [type(part).__name__, *(_content(getattr(part, field), names) for field in fields)]


def _is_silent(part: Any) -> bool:
    """True for docstrings, and for statements and arguments that cannot change a result."""
    if isinstance(part, ast.keyword):
        return part.arg in CANNOT_CHANGE_RESULTS["keywords"]
    if isinstance(part, ast.If | ast.For):
        about = _dotted(part.test if isinstance(part, ast.If) else part.iter)
        silent = about and all(map(_is_silent, (*part.body, *part.orelse)))
        return bool(silent) or about in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
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


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Return the dotted name of ours behind each name that an import gives."""
    if isinstance(node, ast.Import):
        found = {each.asname: each.name for each in node.names if each.asname}
    else:
        found = {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return {name: dotted for name, dotted in found.items() if dotted.split(".")[0] == PACKAGE.name}
