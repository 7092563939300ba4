"""Import of objects that a method names: by module, or by the path of a file outside the package."""

import hashlib
import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

LOADED = "aftershock_method_"


def load_file(file: str | Path) -> ModuleType:
    """Import a Python file, or a package by its `__init__.py`, once per content; modules beside it are not on
    the import path, but a package's own are ("from .edit import ...").
    """
    file = Path(file)
    text = file.read_bytes()
    if file.name != "__init__.py" and (file.parent / "__init__.py").is_file():
        outer = load_file(file.parent / "__init__.py")
        return import_module(f"{outer.__name__}.{file.stem}")
    name = LOADED + hashlib.sha256(str(file.resolve()).encode() + text).hexdigest()[:16]
    if name in sys.modules:
        return sys.modules[name]
    folder = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folder)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_object(reference: str) -> Any:
    """Return what "module:name" or "file.py:name" stands for."""
    home, _, name = reference.rpartition(":")
    module = load_file(home) if home.endswith(".py") else import_module(home)
    if not hasattr(module, name):
        raise ValueError(f"{home} has no {name!r}")
    return getattr(module, name)
