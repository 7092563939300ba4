"""Formatting of bytes, seconds, counts, tables and foreign text for people."""

import time
from collections.abc import Collection, Sequence


def megabytes(n: float | None) -> str:
    """Bytes in MB up to 10 GB; an MB is 2**20 bytes, as SLURM has it."""
    if n is None:
        return "an unknown amount"
    mb = n / 2**20
    return f"{mb:.0f} MB" if mb < 10_000 else f"{mb / 1024:.1f} GB"


def duration(seconds: float) -> str:
    """Seconds as text, such as 12 s, 3 min, 2.5 h, 4.1 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def moment(at: float) -> str:
    """Seconds since 1970 as a date and a time of day, here."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def plural(unit: str) -> str:
    """The plural of what a job counts: cases, batches."""
    return f"{unit}es" if unit.endswith(("ch", "s", "x")) else f"{unit}s"


def aligned(rows: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """A line for each row, with cells as wide as their column: those of columns `left` start at its left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = [f"{'<' if i in left else '>'}{width}" for i, width in enumerate(widths)]
    return ["  ".join(map(format, row, forms)) for row in rows]


def printable(text: str) -> str:
    """`text` on one line without terminal control characters: error texts may hold any label."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
