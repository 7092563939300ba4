"""Values and text that may stand inside a script or a page, whatever a label holds."""

import json
import math
import unicodedata
from collections.abc import Iterable
from typing import Any

import jinja2
import numpy as np

REPLACED = "\N{REPLACEMENT CHARACTER}"
BARRED = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def embedded(value: Any) -> str:
    """`value` as JSON in ASCII without `<`, `>` and `&`: it ends no script element and no line of one."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(BARRED)


def visible(text: str) -> str:
    """`text` with a mark for each control character and each that turns the direction of text.

    Line ends and tabs stay.
    """
    return "".join(c if c in "\n\t" or not _hidden(c) else REPLACED for c in text)


def _hidden(character: str) -> bool:
    turning = unicodedata.bidirectional(character) in (
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    )
    return turning or unicodedata.category(character) in ("Cc", "Cs")


def numbers(values: Iterable[float], digits: int = 4) -> list[float | int | None]:
    """`values` rounded to `digits` significant digits; None for one that is missing or not finite."""
    return [_short(value, digits) for value in np.asarray(values, dtype=float).tolist()]


def _short(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    if value.is_integer() and abs(value) < 2**53:
        return int(value)
    return float(f"{value:.{digits}g}")


class Words:
    """A list of distinct texts, and the index of each."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Index of `text`, which is added when new."""
        return self._places.setdefault(text, len(self._places))

    @property
    def texts(self) -> list[str]:
        """All texts, by place."""
        return list(self._places)


def environment() -> jinja2.Environment:
    """Templates that escape what is put in; a missing name is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("aftershock", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["visible"] = visible
    return made
