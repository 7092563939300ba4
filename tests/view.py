"""The view of `aftershock status` in lines."""

from io import StringIO

from rich.console import Console

from aftershock.jobs.status import Snapshot, draw


def lines_of(found: Snapshot, width: int, height: int | None = None, colour: bool = False) -> list[str]:
    """The view as a terminal of so many characters shows it."""
    console = Console(
        width=width, file=StringIO(), force_terminal=colour, color_system="standard" if colour else None
    )
    console.print(draw(found, width, height))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]
