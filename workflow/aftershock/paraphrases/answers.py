"""Parser of the texts in an answer that should be a JSON list.

Models add sentences before and after it, fence it as code, number lines instead, wrap it in an object, or
stop in the middle of it. Items that can be separated safely are taken; everything is checked afterwards.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from aftershock.prompts import SLOT

_BETWEEN = re.compile(r"\s*,?\s*")  # items of a list
_DECODER = json.JSONDecoder()
_LINE = re.compile(r"^\s*(?:\(?\d{1,3}[.):]|[-*•])\s+(?P<text>.*?)\s*,?\s*$")


def read_list(text: str) -> list[Any]:
    """The items of the longest JSON list in `text`; else of a list that was cut off; else its listed lines.

    Lines count where they are numbered or have a bullet, or else where they hold a slot. An empty list is
    returned when there is nothing of the kind.
    """
    lists = list(_lists(text))
    if lists:
        return max(lists, key=len)
    cut = _cut_off(text)
    if cut:
        return cut
    lines = text.splitlines()
    marked = [match["text"] for line in lines if (match := _LINE.match(line))]
    return marked or [line.strip() for line in lines if SLOT in line]


def _lists(text: str) -> Iterator[list[Any]]:
    """Every JSON list in a text that is not part of another one and holds some text."""
    end = 0
    for match in re.finditer(r"\[", text):
        if match.start() < end:
            continue
        try:
            value, after = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if any(isinstance(item, str) for item in value):
            end = after
            yield value


def _cut_off(text: str) -> list[str]:
    """The whole strings of a list that starts but does not end."""
    start = re.search(r'\[\s*(?=")', text)
    if not start:
        return []
    found, place = [], start.end()
    while place < len(text) and text[place] == '"':
        try:
            value, place = _DECODER.raw_decode(text, place)
        except ValueError:
            break
        found.append(value)
        if match := _BETWEEN.match(text, place):
            place = match.end()
    return found
