"""Progress of the current folder's run: `aftershock status`.

On a terminal the view is drawn again every few seconds until the run has ended, or Ctrl-C. It only reads.
"""

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from aftershock.jobs import slurm_jobs
from aftershock.jobs.slurm_jobs import SlurmJob
from aftershock.jobs.snapshot import Snapshot, take
from aftershock.jobs.view import draw

SECONDS = 3.0
"""Seconds between two drawings."""
SLURM_SECONDS = 15.0
"""Seconds between two queries of SLURM, whose controller is shared."""
CLEAR, HOME, END_OF_LINE, BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
SLURM_LOGS = Path(".snakemake/slurm_logs")


def show(once: bool = False) -> None:
    """Draw the view until the run ends where this is a terminal, else, or with `once`, one time."""
    if sys.stdout.isatty() and not once:
        watch()
    else:
        print("\n".join(draw(take(_slurm()), *_size()[:1], colour=_colour())))


def watch() -> None:
    """Draw until the run has ended; the last view stays."""
    slurm, asked = _slurm(), time.monotonic()
    print(CLEAR, end="")
    try:
        while True:
            if time.monotonic() - asked > SLURM_SECONDS:
                slurm, asked = _slurm(), time.monotonic()
            found = take(slurm)
            _show(found)
            if not found.at_work:
                return
            time.sleep(SECONDS)
    except KeyboardInterrupt:
        print()


def _show(found: Snapshot) -> None:
    width, height = _size()
    lines = draw(found, width, height - 1, _colour())
    print(HOME + "".join(f"{line}{END_OF_LINE}\n" for line in lines) + BELOW, end="", flush=True)


def _slurm() -> Mapping[str, SlurmJob] | None:
    """This folder's SLURM jobs; None where none was ever submitted from it, or SLURM is silent."""
    return slurm_jobs.known_jobs(Path.cwd()) if SLURM_LOGS.is_dir() else None


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size(fallback=(110, 50))
    return size.columns, size.lines


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
