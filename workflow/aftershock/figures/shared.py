"""Drawing of many figures by several processes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

from aftershock.figures.style import save
from aftershock.process import share_out

Named: TypeAlias = tuple[str, Callable[[], Figure | None]]
"""A file name without its ending, and what makes the figure; None where there is nothing to show."""


def draw_shared(folder: Path, figures: Sequence[Named], processes: int) -> None:
    """Make and save `figures` below `folder`; so many `processes` share them, which changes no byte."""

    def draw(share: int) -> None:
        for name, make in figures[share::processes]:
            if figure := make():
                save(figure, folder, name)

    share_out(draw, processes)
