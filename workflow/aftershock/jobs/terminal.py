"""A copy of the last lines that a run writes to the terminal."""

from collections import deque
from typing import Any, TextIO

KEPT = 60  # lines


class LastLines:
    """A stream that passes its input on to another one, and keeps the last lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lines: deque[str] = deque(maxlen=KEPT)
        self._open = ""

    def write(self, text: str) -> int:
        """Write to the other stream."""
        *whole, self._open = (self._open + text).split("\n")
        self.lines.extend(whole)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
