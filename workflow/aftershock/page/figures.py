"""Figures embedded in the page, or linked where they are large."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

INSIDE = 1_300_000
"""Bytes of pictures that the page holds itself at most; further ones stay in `figures/` beside it."""

PAGE = 4_500_000
"""Characters of a page's data and pictures: with its text it stays below five megabytes."""


@dataclass(frozen=True)
class Picture:
    """A figure: its file's name without ending, title, what it shows, the model, and its SVG."""

    file: str
    title: str
    about: str
    model: str
    svg: bytes


def room_beside(characters: int) -> int:
    """Return the bytes of pictures for which a page with so many characters of data has room."""
    return min(INSIDE, max(0, PAGE - characters) * 3 // 4)


def shown(pictures: Sequence[Picture], room: int = INSIDE) -> list[dict[str, str]]:
    """Title, description and image address of each picture; the page holds the first `room` bytes of them."""
    held, made = 0, []
    for picture in pictures:
        held += len(picture.svg)
        address = inline(picture.svg) if held <= room else f"figures/{picture.file}.svg"
        made.append(
            {"file": picture.file, "title": picture.title, "about": picture.about, "model": picture.model,
             "image": address}
        )  # fmt: skip
    return made


def inline(svg: bytes) -> str:
    """An SVG as the address of an image: inside one, no script runs and no identifier meets another's."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
