"""Two tiers of tests: by default a behaviour is tried once, and `make test-thorough` repeats it.

What is marked `thorough` tries over more families, methods, variants or sizes, or in whole runs, what tests
without the mark cover. It is left out by default, as the options of pytest in pyproject.toml say.
"""

from collections.abc import Iterable
from typing import Any

import pytest

FAMILIES = ("gpt2", "gptj", "llama", "gemma2")
"""A family of each kind: transposed weights, an MLP beside the attention, a gated one, norms behind both."""
METHODS = ("alphaedit", "ft", "grace", "in_context", "mend", "rome")
"""A method of each kind: with a memory, of whole weights, routed, in the text, by a network, of rank one."""


def repeated(*values: Any) -> Any:
    """Return a parameter that repeats what others try by default."""
    return pytest.param(*values, marks=pytest.mark.thorough)


def tiered(cases: Iterable[Any], by_default: Iterable[bool]) -> list[Any]:
    """Parameters of which some run by default, as `by_default` says; where it says so of none, all do."""
    cases, chosen = list(cases), list(by_default)
    if not any(chosen):
        return cases
    return [
        case if default else repeated(*(case if isinstance(case, tuple) else (case,)))
        for case, default in zip(cases, chosen, strict=True)
    ]


def some(cases: Iterable[Any], default: Iterable[Any]) -> list[Any]:
    """Parameters of which those in `default` run by default."""
    cases, default = list(cases), list(default)
    return tiered(cases, (case in default for case in cases))


def of_families(cases: Iterable[Any]) -> list[Any]:
    """Parameters of which those of FAMILIES run by default; a case is a family or ends with one."""
    cases = list(cases)
    return tiered(cases, ((case[-1] if isinstance(case, tuple) else case) in FAMILIES for case in cases))


def of_methods(cases: Iterable[Any]) -> list[Any]:
    """Parameters of which those of METHODS run by default; a case is a method or begins with one."""
    cases = list(cases)
    return tiered(cases, ((case[0] if isinstance(case, tuple) else case) in METHODS for case in cases))


def once_each(cases: Iterable[tuple]) -> list[Any]:
    """Parameters of which the first with each first value runs by default."""
    cases = list(cases)
    firsts = [case[0] for case in cases]
    return tiered(cases, (first not in firsts[:place] for place, first in enumerate(firsts)))
