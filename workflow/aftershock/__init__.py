"""Aftershock: measurement of the side effects of editing facts in a language model.

Packages, in the order of the pipeline: `kg` mines facts and logic rules from a graph, `paraphrases` finds
other wordings of prompts, `datasets` turns facts into benchmark cases, `lm` loads, trains and scores
models, `editors` changes facts in them, `experiments` takes cases through their states, `metrics` turns
observed probabilities into numbers, `figures`, `page` and `paper` show them. `config` and `tables` check
what goes in and out, `budget` says what a run will take, `jobs` looks after it, `provenance` says what made a
result, `command` is what a user calls. The modules at this level are shared by all packages.

The names of `library` can be taken from here; torch is loaded when the first of them is asked for.

>>> import aftershock
>>> aftershock.EditRequest("{} lives in", "Ann", "Rome").text
'Ann lives in'
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aftershock.library import EditRequest, LanguageModel, Query, edit, export, generate, score

__all__ = ["EditRequest", "LanguageModel", "Query", "edit", "export", "generate", "score"]


def __getattr__(name: str) -> Any:
    """Return a name of `library`, or the version, when it is asked for (PEP 562)."""
    if name == "__version__":
        from aftershock.project import version

        return version()
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("aftershock.library"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the module, those that are loaded later among them."""
    return sorted({*globals(), *__all__, "__version__"})
