"""Docstrings as Markdown, for the documentation's site, with arguments as lists and examples as code."""

import re
from typing import Any

import griffe

ARGUMENT = re.compile(r"(\w+): (.+)")


class Docstrings(griffe.Extension):
    """Rewrites the docstrings of all objects that a page shows."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Put the Markdown of a docstring in its place (a hook of griffe)."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring with its arguments as a list and its examples as code."""
    return "\n\n".join(_paragraph(part) for part in text.split("\n\n"))


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if lines and lines[0].startswith(">>> "):
        return "\n".join(["```pycon", *lines, "```"])
    if not all(ARGUMENT.match(line) or line.startswith("    ") for line in lines):
        return text
    return "\n".join(
        f"* `{found[1]}`: {found[2]}" if (found := ARGUMENT.match(line)) else line for line in lines
    )
