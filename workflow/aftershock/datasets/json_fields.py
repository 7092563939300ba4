"""Fields of records that were read from JSON, each checked to be the text that it should be.

ValueErrors begin as the rest of a sentence about the record, such as " lacks subject" or ": subject is null,
not a text", so that a reader can put its number before it.
"""

import json
from typing import Any

from aftershock.prompts import shortened


def field(record: Any, path: str) -> Any:
    """Return a field of an object, or one of objects in it, as `requested_rewrite.subject`."""
    found, reached = record, ""
    for name in path.split("."):
        if not isinstance(found, dict):
            raise ValueError(f"{f': {reached}' if reached else ''} is {told(found)}, not an object")
        reached = f"{reached}.{name}" if reached else name
        if name not in found:
            raise ValueError(f" lacks {reached}")
        found = found[name]
    return found


def text(record: Any, path: str) -> str:
    """Return a field that is a text and not empty."""
    return checked(field(record, path), path)


def label(record: Any, path: str) -> str:
    """Return an object's label: CounterFact has it in `str`, and forks have the text itself."""
    found = field(record, path)
    return checked(found if isinstance(found, str) else field(record, f"{path}.str"), f"{path}.str")


def texts(value: Any, name: str) -> list[str]:
    """Return the texts of a list; none where it is null."""
    if value is not None and not isinstance(value, list):
        raise ValueError(f": {name} is {told(value)}, not a list of texts")
    return [checked(found, f"{name}[{i}]") for i, found in enumerate(value or [])]


def checked(value: Any, name: str) -> str:
    """Return a value that is a text, can be written as UTF-8 and is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f": {name} is {told(value)}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f": {name} holds half of a character, {ascii(shortened(value))}") from None
    return value


def told(value: Any) -> str:
    """Return a value as JSON, for an error message."""
    return writable(shortened(json.dumps(value, ensure_ascii=False)))


def writable(text: str) -> str:
    """Return a text that can be written as UTF-8, with escapes in place of halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode()
