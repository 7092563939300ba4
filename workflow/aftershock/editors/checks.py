"""Checks of a method against the contract before any job starts. Loads no tensor library."""

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from aftershock.editors.artifacts import ARTIFACTS
from aftershock.editors.contract import Method
from aftershock.editors.settings import merge
from aftershock.lm.families import list_families

TENSORS = ("torch", "transformers")  # take seconds to load, and a submitting machine may lack them


def find_faults(name: str, method: Method, editor: str, loaded: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each expectation of the contract that a method does not meet, and its actual value.

    `editor` is where its class is, "module:Class" or "file.py:Class"; `loaded` are the tensor libraries that
    importing METHOD loaded.
    """
    if loaded:
        yield (
            "importing METHOD should load no tensor library, since planning has none (import it inside the "
            "editor's functions, or put the editor into a module beside METHOD's and name it "
            "editor='.edit:Name')",
            f"that {' and '.join(loaded)} is loaded",
        )
    yield from _editor_faults(method, editor)
    yield from _settings_faults(name, method)
    if not (method.families is None or callable(method.families)):
        for unknown in sorted(set(method.families) - set(list_families())):
            yield f"families should be some of {', '.join(list_families())}, or a function", repr(unknown)
    if method.layers is not None:
        for n in (1, 12, 48):
            layers = method.layers(n)
            if not layers or not all(isinstance(i, int) and 0 <= i < n for i in layers):
                yield f"layers({n}) should be a tuple of layers from 0 to {n - 1}", repr(layers)


def _editor_faults(method: Method, editor: str) -> Iterator[tuple[str, str]]:
    home, _, name = editor.rpartition(":")
    if ":" not in method.editor or not name.isidentifier():
        yield "editor should be 'module:Class', or ':Class' in the file itself", repr(method.editor)
        return
    file = Path(home) if home.endswith(".py") else _file_of(home)
    if file is None or not file.is_file():
        yield f"editor {method.editor!r} should name a module that exists", f"no {home}"
        return
    try:
        statements = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        yield f"{file.name} should hold Python", str(error)
        return
    classes = {node.name: node for node in statements if isinstance(node, ast.ClassDef)}
    if name not in classes:
        yield f"{file.name} should define the class {name}", ", ".join(sorted(classes)) or "no class"
        return
    bases = [ast.unparse(base).split(".")[-1] for base in classes[name].bases]
    functions = [node.name for node in classes[name].body if isinstance(node, ast.FunctionDef)]
    if not bases:
        yield f"class {name} should be derived from Editor of aftershock.editors.contract", "no base class"
    elif bases == ["Editor"] and "edit" not in functions:
        yield f"class {name} should define edit(cases, state, memory)", ", ".join(functions) or "no function"


def _settings_faults(name: str, method: Method) -> Iterator[tuple[str, str]]:
    try:
        settings = merge(method.settings, name)
    except Exception as error:
        yield "settings should be a dataclass whose fields all have defaults", str(error)
        return
    layers = getattr(settings, "layers", None)
    if not isinstance(layers, tuple) and (hasattr(settings, "layers") or method.layers is not None):
        yield "settings should have a field layers, a tuple of numbers", repr(layers)
    try:
        wanted = set(method.needs(settings))
    except Exception as error:
        yield "artifacts should be names, or a function of the settings", f"{type(error).__name__}: {error}"
        return
    for unknown in sorted(wanted - set(ARTIFACTS)):
        yield f"artifacts should be some of {', '.join(sorted(ARTIFACTS))}, which rules make", repr(unknown)


def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin else None
