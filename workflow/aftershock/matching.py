"""Whether a text names something, whatever the case, spacing and form of its letters."""

import re
import unicodedata


def names(text: str, label: str) -> bool:
    """Whether `label` occurs in `text` as whole words."""
    return re.search(rf"(?<!\w){re.escape(normal(label))}(?!\w)", normal(text)) is not None


def begins_with(text: str, label: str) -> bool:
    """Whether the first words of `text` are `label`."""
    return re.match(rf"{re.escape(normal(label))}(?!\w)", normal(text)) is not None


def normal(text: str) -> str:
    """`text` in one form of letters, without case, with single spaces and none at its ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
