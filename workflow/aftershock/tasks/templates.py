"""Templates and expressions over the fields of a row, as tasks' files have them.

They are Jinja's, in its sandbox: fields are data, whatever braces they hold. A field that a row lacks is an
error where it is read, not an empty text. One that is null counts as lacking.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, Undefined
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def render(template: str, fields: Mapping[str, Any]) -> str:
    """Return the text of a template; ValueError names the template and what is wrong with it."""
    try:
        return _template(template).render(_without_nulls(fields))
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        raise ValueError(f"template {template!r}: {error}") from error


def evaluate(expression: str, fields: Mapping[str, Any]) -> Any:
    """Return the value of an expression; ValueError names the expression and what is wrong with it."""
    try:
        value = _expression(expression)(_without_nulls(fields))
        if isinstance(value, Undefined):
            str(value)  # which says what is not there
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        raise ValueError(f"expression {expression!r}: {error}") from error
    return value


def texts(given: str | Sequence[str], fields: Mapping[str, Any]) -> list[str]:
    """Return the texts of a list of templates, or of one expression whose value is a list."""
    if not isinstance(given, str):
        return [render(template, fields) for template in given]
    value = evaluate(given, fields)
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise ValueError(f"expression {given!r}: found {value!r}; expected a list of texts")
    try:
        return [str(_present(text)) for text in value]
    except TemplateError as error:
        raise ValueError(f"expression {given!r}: {error}") from error


def _without_nulls(value: Any, name: str = "a field") -> Any:
    """Return a value with an undefined one in place of every null, at any depth."""
    if value is None:
        return StrictUndefined(hint=f"{name} is null")
    if isinstance(value, Mapping):
        return {key: _without_nulls(part, f"{key!r}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nulls(part, f"an entry of {name}") for part in value]
    return value


def _present(value: Any) -> Any:
    """Return a value that is written into a text; ValueError where there is none, rather than "None"."""
    if value is None:
        raise ValueError("a value that is part of the text is null")
    return value


def _spaced(values: Sequence[str], before: str = " ") -> list[str]:
    """Return each text with a space before it, as the continuation of a prompt."""
    return [f"{before}{value}" for value in values]


def _marked(values: Sequence[Any], marks: Sequence[Any]) -> list[Any]:
    """Return those of several values whose mark in another list is true."""
    return [value for value, mark in zip(values, marks, strict=True) if mark]


def _sub(text: str, pattern: str, replacement: str = "") -> str:
    """Return a text with what fits a regular expression replaced."""
    return re.sub(pattern, replacement, str(text))


def _part(text: str, pattern: str) -> str:
    """Return the first group of a regular expression where it first fits; ValueError where it does not."""
    if not (found := re.search(pattern, str(text), flags=re.DOTALL)):
        raise ValueError(f"nothing fits {pattern!r} in {text[:60]!r}")
    return found[1]


def _options(text: str) -> list[str]:
    """Return what a text lists as options, a line each: (A) and so on, or what stands after dashes."""
    listed = _listed(text)
    return re.findall(r"^\([A-Z]\)", listed, flags=re.M) or re.findall(r"^- (.+?)\s*$", listed, flags=re.M)


def _option_texts(text: str) -> list[str]:
    """Return what stands behind the letters of the options that a text lists, (A) and so on."""
    return re.findall(r"^\([A-Z]\) *(.+?)\s*$", _listed(text), flags=re.M)


def _listed(text: str) -> str:
    return str(text).rpartition("Options:")[2]


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, finalize=_present, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {"spaced": _spaced, "marked": _marked, "sub": _sub, "part": _part}
    environment.globals.update(letters=LETTERS, options=_options, option_texts=_option_texts)
    return environment


@cache
def _template(template: str) -> Any:
    return _environment().from_string(template)


@cache
def _expression(expression: str) -> Any:
    return _environment().compile_expression(expression, undefined_to_none=False)
