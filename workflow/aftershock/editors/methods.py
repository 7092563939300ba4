"""Discovery of editing methods, which no list names. Loads no tensor library.

A method is found by its name among the packages of this one and in the entry-point group `aftershock.editors`
of installed distributions, or by the path of a Python file or package folder that holds its METHOD.
"""

import difflib
import importlib.metadata
import importlib.util
import itertools
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import aftershock.editors
from aftershock.editors.artifacts import ARTIFACTS
from aftershock.editors.checks import TENSORS, find_faults
from aftershock.editors.contract import Method
from aftershock.editors.importing import load_file, load_object
from aftershock.editors.regularisers import EDITOR as REGULARISED
from aftershock.editors.regularisers import Entry
from aftershock.editors.settings import as_values, merge
from aftershock.lm.families import list_families

if TYPE_CHECKING:
    from aftershock.editors.contract import Editor
    from aftershock.lm.model import LanguageModel

GROUP = "aftershock.editors"


@dataclass(frozen=True)
class FoundMethod:
    """A method and its origin: a module's name, or the path of a file."""

    name: str
    origin: str
    method: Method

    @property
    def settings(self) -> type:
        """The dataclass of its settings."""
        return self.method.settings

    @property
    def editor(self) -> str:
        """Its editor as "module:Class" or "file.py:Class"; `load_object` imports it."""
        module, _, name = self.method.editor.partition(":")
        if not module.startswith("."):
            return self.method.editor if module else f"{self.origin}:{name}"
        if not self.origin.endswith(".py"):
            return f"{self.origin}{module}:{name}"
        return f"{Path(self.origin).parent.joinpath(*module[1:].split('.'))}.py:{name}"

    @property
    def code(self) -> list[str]:
        """Its editor as roots of `code_hash`: a method that lies elsewhere counts as a whole."""
        home = self.editor.rpartition(":")[0]
        if self.origin.endswith(".py"):
            return sorted({self.origin, home} if home.endswith(".py") else {self.origin})
        if home.startswith("aftershock."):
            return [self.editor]
        specs = [importlib.util.find_spec(module) for module in {self.origin, home}]
        return sorted(spec.origin for spec in specs if spec and spec.origin)

    def loaders(self, settings: Any) -> dict[str, str]:
        """Return the function that reads each artifact that an edit with `settings` needs, by name."""
        return {name: ARTIFACTS[name].load for name in sorted(self.method.needs(settings))}

    def load(self) -> "type[Editor]":
        """Import its editor."""
        return load_object(self.editor)

    def make(self, lm: "LanguageModel", settings: Any, *arguments: Any, **options: Any) -> "Editor":
        """Return its editor on a model; ValueError where it cannot edit models of this family."""
        if fault := self.fault_of_family(lm.model.config.model_type, settings):
            raise ValueError(fault)
        return self.load()(lm, settings, *arguments, **options)

    def fault_of_family(self, family: str, settings: Any = None) -> str | None:
        """Return why models of a family cannot be edited, with these settings if given; None if they can."""
        if self.method.edits(family):
            return self.method.fault(settings, family) if settings and self.method.fault else None
        able = [name for name in list_families() if self.method.edits(name)]
        return f"{self.name} cannot edit a model of family {family}, only of {', '.join(able) or 'none'}"


# --- finding ----------------------------------------------------------------------------------------------


@cache
def find_methods() -> Mapping[str, FoundMethod]:
    """Return all methods with a name; ValueError when two have the same one, or one breaks the contract."""
    found: dict[str, FoundMethod] = {}
    for name, origin in [*_packages(), *_entry_points()]:
        if name in found:
            raise ValueError(f"two editing methods are called {name!r}: {found[name].origin} and {origin}")
        found[name] = _checked(name, origin, partial(import_module, origin))
    return found


def _packages() -> Iterator[tuple[str, str]]:
    for module in pkgutil.iter_modules(aftershock.editors.__path__):
        if module.ispkg:
            yield module.name, f"{GROUP}.{module.name}"


def _entry_points() -> Iterator[tuple[str, str]]:
    for point in importlib.metadata.entry_points(group=GROUP):
        yield point.name, point.module


@cache
def method_of(name: str) -> FoundMethod:
    """Return the method of a name or path; ValueError naming the known ones, or why a path holds none."""
    if _is_path(name):
        return _from_path(name)
    methods = find_methods()
    if name not in methods:
        close = difflib.get_close_matches(name, methods, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"unknown editing method {name!r}; {hint}known methods: {', '.join(sorted(methods))}, or the "
            "path of a Python file with METHOD"
        )
    return methods[name]


@cache
def wrapped_method(name: str) -> FoundMethod:
    """Return the method that another one wraps; the other methods need not have been found yet."""
    for known, origin in [*_packages(), *_entry_points()]:
        if known == name:
            return _checked(name, origin, partial(import_module, origin))
    return method_of(name)


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith(".py")


def _from_path(name: str) -> FoundMethod:
    path = Path(name)
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"editing method {name!r}: there is no such file; a path is relative to the working directory"
        )
    return _checked(path.stem, str(file), partial(load_file, file))


def _checked(name: str, origin: str, load: Callable[[], ModuleType]) -> FoundMethod:
    """Import a method's module and return its METHOD; ValueError names any breach of the contract."""
    where, before = f"editing method {name!r} ({origin})", set(sys.modules)
    try:
        method = getattr(load(), "METHOD", None)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    loaded = [library for library in TENSORS if library in set(sys.modules) - before]
    if not isinstance(method, Method):
        raise ValueError(
            f"{where}: METHOD should be a Method of aftershock.editors.contract, found {method!r}"
        )
    found = FoundMethod(name, origin, method)
    faults = [f"{wanted}; found {got}" for wanted, got in find_faults(name, method, found.editor, loaded)]
    if faults:
        raise ValueError("\n  ".join([f"{where} breaks the contract of editing methods:", *faults]))
    return found


def make_editor(
    method: str,
    settings: Any,
    lm: "LanguageModel",
    artifacts: Mapping[str, Any] | None = None,
    seed: int = 0,
    regularisers: Sequence[Entry] = (),
) -> "Editor":
    """Return an editor of `method`, whose changes pass through `regularisers`."""
    editor = method_of(method).make(lm, settings, artifacts, seed)
    return load_object(REGULARISED)(editor, regularisers) if regularisers else editor


# --- settings ---------------------------------------------------------------------------------------------


def settings_of(name: str, *layers: Mapping[str, Any]) -> Any:
    """Return the settings of method `name`: its defaults, overridden by each of `layers` in turn."""
    return merge(method_of(name).settings, name, *layers)


def default_layers(name: str, n_layers: int) -> tuple[int, ...] | None:
    """Return the layers that method `name` edits in a model of `n_layers`; None where it has no rule."""
    rule = method_of(name).method.layers
    return rule(n_layers) if rule else None


def choices(search: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every choice of one value for each searched setting."""
    names = sorted(search)
    for values in itertools.product(*(search[name] for name in names)):
        yield dict(zip(names, values, strict=True))


def other_choices(
    name: str, settings: Mapping[str, Any], search: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    """Return the choices from `search` that make settings unlike each other's and unlike `settings`."""
    made = {_identity(settings_of(name, settings, values)): values for values in choices(search)}
    made.pop(_identity(settings_of(name, settings)), None)
    return list(made.values())


def _identity(settings: Any) -> str:
    return json.dumps(as_values(settings), sort_keys=True)
