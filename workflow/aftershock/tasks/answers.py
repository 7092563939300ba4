"""Answers in generated texts: finding them, and the form in which they are compared."""

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from aftershock.tasks.agreement import plain_words

NUMBER = re.compile(r"-?\d[\d,]*\.?\d*|-?\.\d+")
MINUS = "\u2212"  # as typesetters write it


def parse(text: str, how: Mapping[str, Any]) -> str | None:
    """Return the answer in a generated text as a task's `parse` finds it, None where there is none."""
    if how["words"]:
        lower = text.lower()
        places = {word: lower.find(word.lower()) for word in how["words"]}
        found = [word for word in how["words"] if places[word] >= 0]
        return min(found, key=lambda word: places[word]) if found else None
    if how["pattern"] is not None:
        matches = [match[1] for match in re.finditer(how["pattern"], text)]
        return matches[0 if how["take"] == "first" else -1].strip() if matches else None
    return text.strip() or None


def forms(name: str) -> Callable[[str], str]:
    """Return the function that puts answers into the form in which they are compared."""
    return FORMS[name]


def as_number(text: str) -> str:
    """Return the first number of a text in plain digits, the text itself without one."""
    return next(_numbers(text), text.strip())


def numbers_in(text: str) -> set[str]:
    """Return all numbers of a text, in plain digits."""
    return set(_numbers(text))


def _numbers(text: str) -> Iterator[str]:
    """Yield the numbers of a text without commas, and without zeros that say nothing."""
    for found in NUMBER.finditer(text.replace("$", "").replace(MINUS, "-")):
        yield f"{Decimal(found[0].replace(',', '')).normalize() + 0:f}"  # + 0: there is no minus zero


def as_words(text: str) -> str:
    """Return the plain words of a text; where it has none, as "A+" or "The", the text in lower case.

    Else every answer without plain words would equal every other one, and stand in any text.
    """
    return plain_words(text) or text.strip().lower()


FORMS: dict[str, Callable[[str], str]] = {
    "text": str.strip,
    "lower": lambda text: text.strip().lower(),
    "words": as_words,
    "number": as_number,
}
