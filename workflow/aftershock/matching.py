"""Matching of labels in texts, regardless of case, spacing and Unicode form."""

import re
import unicodedata


def names(text: str, label: str) -> bool:
    """True if `label` occurs in `text` as whole words."""
    return re.search(rf"(?<!\w){re.escape(normal(label))}(?!\w)", normal(text)) is not None


def begins_with(text: str, label: str) -> bool:
    """True if the first words of `text` are `label`."""
    return re.match(rf"{re.escape(normal(label))}(?!\w)", normal(text)) is not None


def goes_on_with(continuation: str | None, label: str) -> bool | None:
    """True if a continuation begins with `label`; None without one, and where it is cut off within."""
    if continuation is None:
        return None
    said = normal(continuation)
    return (
        None
        if said and said != normal(label) and normal(label).startswith(said)
        else begins_with(said, label)
    )


def normal(text: str) -> str:
    """`text` in one Unicode form, without case, with single spaces and none at its ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
