"""Progress of a long computation: a bar on a terminal, lines in a log, numbers in the job's record."""

import logging
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

LOG_SECONDS = 60.0
BAR_SECONDS = 0.5


class Progress:
    """Counts steps and reports them. Without arguments it only counts, as tests want.

    `console` is a terminal's stderr: anything else gets no bar, as several jobs write to it. `tell`
    is given done, total and unit with every step. A line goes to the log every LOG_SECONDS.
    """

    def __init__(
        self, console: TextIO | None = None, tell: Callable[[float, float | None, str], None] | None = None
    ) -> None:
        self._console = console if console is not None and console.isatty() else None
        self._tell = tell
        self._bar: tqdm | None = None
        self.done: float = 0
        self.total: float | None = None
        self.unit = ""

    def begin(self, what: str, total: float | None, unit: str, done: float = 0) -> None:
        """Start to count `unit`s of `what` anew, `done` of `total` being done already."""
        self.end()
        self.done, self.total, self.unit, self._what = done, total, unit, what
        self._first, self._started = done, time.monotonic()
        self._logged = self._started
        if self._console:
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=what,
                file=self._console,
                unit=unit,
                unit_scale=unit == "token",
                mininterval=BAR_SECONDS,
            )
        self._report()

    def step(self, n: float = 1, **remarks: Any) -> None:
        """Count `n` more; `remarks` are shown beside."""
        self.done += n
        if self._bar is not None:
            if remarks:
                self._bar.set_postfix(remarks, refresh=False)
            self._bar.update(n)
        self._report()
        now = time.monotonic()
        if self._tell and now - self._logged >= LOG_SECONDS:
            self._logged = now
            rate = (self.done - self._first) / (now - self._started)
            beside = "".join(f", {name} {value}" for name, value in remarks.items())
            of = "" if self.total is None else f" of {self.total:g}"
            logging.info("%s: %g%s %ss, %.3g/s%s", self._what, self.done, of, self.unit, rate, beside)

    def end(self) -> None:
        """Clear the bar from the terminal's current line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _report(self) -> None:
        if self._tell:
            self._tell(self.done, self.total, self.unit)
