"""The text of `aftershock status`, drawn once or, on a terminal, every few seconds until the run has ended.

It only reads. No line is longer than the terminal is wide.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aftershock.jobs import slurm
from aftershock.jobs.sizes import aligned, duration, megabytes, plural, printable
from aftershock.jobs.snapshot import Job, Snapshot, Stage, rate_of, take
from aftershock.project import command

SECONDS = 3.0
"""Seconds between two drawings."""
SLURM_SECONDS = 15.0
"""Seconds between two queries of SLURM, whose controller is shared."""
BAR = 10
JOBS = 6
"""Running jobs that are shown one by one."""
CLEAR, HOME, END_OF_LINE, BELOW, RESET = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[0m"
STYLES = {"bold": "\x1b[1m", "bad": "\x1b[31m", "dim": "\x1b[2m", "good": "\x1b[32m"}
Line = tuple[str, str]
"""Text and its style."""


def show(once: bool = False) -> None:
    """Draw the view until the run ends where this is a terminal, else, or with `once`, one time."""
    if sys.stdout.isatty() and not once:
        watch()
    else:
        print("\n".join(draw(take(_slurm()), _size()[0], colour=_colour())))


def watch() -> None:
    """Draw until the run has ended; the last view stays."""
    jobs, asked = _slurm(), time.monotonic()
    print(CLEAR, end="")
    try:
        while True:
            if time.monotonic() - asked > SLURM_SECONDS:
                jobs, asked = _slurm(), time.monotonic()
            found, (width, height) = take(jobs), _size()
            lines = draw(found, width, height - 1, _colour())
            print(HOME + "".join(f"{line}{END_OF_LINE}\n" for line in lines) + BELOW, end="", flush=True)
            if not found.at_work:
                return
            time.sleep(SECONDS)
    except KeyboardInterrupt:
        print()


def _slurm() -> Mapping[str, slurm.SlurmJob] | None:
    """This folder's SLURM jobs; None where none was ever submitted from it, or SLURM is silent."""
    return slurm.known_jobs(Path.cwd()) if slurm.LOGS.is_dir() else None


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size(fallback=(110, 50))
    return size.columns, size.lines


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def draw(found: Snapshot, width: int, height: int | None = None, colour: bool = False) -> list[str]:
    """Lines of at most `width` characters; above `height` lines, idle stages are summed up."""
    stages, sums = found.stages, list[Line]()
    lines = _lines(found, stages, sums, width)
    for what, is_idle in (("finished", lambda s: s.is_finished), ("to come", lambda s: not s.is_begun)):
        if height is not None and len(lines) > height:
            idle = [stage for stage in stages if is_idle(stage)]
            stages = [stage for stage in stages if not is_idle(stage)]
            if idle:
                jobs, names = sum(s.planned or s.done for s in idle), ", ".join(s.rule for s in idle)
                sums.append((f"{len(idle)} stages {what} ({jobs} jobs): {names}", "dim"))
            lines = _lines(found, stages, sums, width)
    return [_painted(*line, width, colour) for line in lines[:height]]


def _painted(text: str, style: str, width: int, colour: bool) -> str:
    text = text if len(text) <= width else f"{text[: width - 3]}..."
    return f"{STYLES[style]}{text}{RESET}" if colour and style and text else text.rstrip()


def _lines(found: Snapshot, stages: Sequence[Stage], sums: Sequence[Line], width: int) -> list[Line]:
    lines: list[Line] = [*_head(found), *_total(found)]
    if found.stages:
        lines += [("", ""), *_table(stages, found, width), *sums]
    if found.running:
        lines += [("", ""), ("running, the slowest first", "bold")]
        lines += [(_told(job), "") for job in found.running[:JOBS]]
        if len(found.running) > JOBS:
            lines.append((f"  and {len(found.running) - JOBS} more", "dim"))
    return [*lines, ("", ""), *((line, "") for line in found.machine)]


def _head(found: Snapshot) -> list[Line]:
    """Identity of the run, and its last message."""
    run = found.run
    if run is None and not found.stages:
        return [("No run has left anything here yet.", "bold")]
    lines = [(f"{_state(found)}   {found.folder}", "bold")]
    if run and run.last:
        lines.append(
            (f"{time.strftime('%H:%M:%S', time.localtime(run.last_time))}  {printable(run.last)}", "")
        )
    return lines


def _state(found: Snapshot) -> str:
    """State of the run: running, or how it ended."""
    run = found.run
    if run is None:
        return "no run is at work"
    if found.at_work:
        doing = "being ended by its user after" if run.stopped else "running for"
        return f"{doing} {duration(found.now - run.began)}, process {run.pid} on {run.host}"
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.last_time))
    after = f"{at} after {duration(run.last_time - run.began)}"
    if run.exit == 0:
        return f"finished {after}"
    if run.stopped:
        return f"ended by its user {after} (`{command('resume')}` goes on)"
    if run.exit is None:
        return f"killed after {at} (`{command('resume')}` goes on)"
    if not run.planned:
        return f"stopped {at} before its first job (`{command('why')}` tells why)"
    return f"ended {after} with failures (`{command('why')}` tells of them)"


def _total(found: Snapshot) -> list[Line]:
    """Number of all jobs, and the time when they may be done."""
    stages, planned = found.stages, sum(stage.planned or 0 for stage in found.stages)
    if not stages:
        return [("looking at what is there", "")] if found.at_work else []
    done, failed = sum(stage.done for stage in stages), sum(stage.failed for stage in stages)
    parts = [f"{done} of {planned} jobs done ({100 * done // planned} %)" if planned else f"{done} jobs done"]
    parts.append(f"{len(found.running)} running")
    if found.waiting is not None:
        parts.append(f"{found.waiting} waiting for SLURM")
    lines = [(", ".join(parts) + _left(found), "")]
    if failed:
        lines.append((f"{failed} failed: `{command('why')}` tells why", "bad"))
    return lines


def _left(found: Snapshot) -> str:
    if not found.at_work:
        return ""
    seconds, unknown = found.left
    if unknown and not seconds:
        return "; time left not known yet"
    if unknown:
        return f"; at least {duration(seconds)} left ({unknown} stages not known yet)"
    return f"; about {duration(seconds)} left"


def _table(stages: Sequence[Stage], found: Snapshot, width: int) -> list[Line]:
    """A row for each stage; columns that do not fit are left out."""
    columns: list[tuple[str, Callable[[Stage], object], int]] = [  # title, cell, width that it needs
        ("stage", lambda s: s.rule, 0),
        ("done", lambda s: s.done, 0),
        ("of", lambda s: "?" if s.planned is None else s.planned, 0),
        ("running", lambda s: len(s.running) or "-", 0),
        *([("waiting", lambda s: s.waiting or "-", 0)] if found.waiting is not None else []),
        ("failed", lambda s: s.failed or "-", 0),
        ("", _bar, 70),
        ("a job takes", lambda s: duration(s.job_seconds) if s.job_seconds else "", 80),
        *([("left", lambda s: _stage_left(s, found), 60)] if found.at_work else []),
        ("rate", _rate, 90),
    ]
    columns = [column for column in columns if width >= column[2]]
    rows = [[title for title, *_ in columns], *([str(cell(s)) for _, cell, _ in columns] for s in stages)]
    left = [i for i, (title, *_) in enumerate(columns) if title in ("stage", "", "rate")]
    return list(zip(aligned(rows, left), ["bold", *map(_style, stages)], strict=True))


def _style(stage: Stage) -> str:
    if stage.failed:
        return "bad"
    return "" if stage.running else "good" if stage.is_finished else "dim"


def _bar(stage: Stage) -> str:
    """Progress bar; running jobs count by their own progress."""
    if not stage.planned:
        return ""
    parts = sum(job.done / job.total for job in stage.running if job.done and job.total)
    full = int(BAR * min((stage.done + parts) / stage.planned, 1.0))
    return "#" * full + "." * (BAR - full)


def _stage_left(stage: Stage, found: Snapshot) -> str:
    left = found.left_of(stage)
    return duration(left) if left and stage.planned is not None else ""


def _rate(stage: Stage) -> str:
    """Rate of all running jobs together, or of one that is done."""
    rated = [job for job in stage.running if job.rate]
    return rate_of(rated) if len({job.unit for job in rated}) == 1 else stage.job_rate


def _told(job: Job) -> str:
    """A running job in a line: progress comes first, as its name may be cut off."""
    parts = [duration(job.age)]
    if job.done is not None and job.total:
        parts.append(f"{job.done:g} of {job.total:g} {plural(job.unit)}")
    if job.rate:
        parts.append(rate_of([job]))
    if job.left is not None:
        parts.append(f"{duration(job.left)} left")
    if job.peak_bytes:
        parts.append(megabytes(job.peak_bytes))
    return f"  {job.name}: {', '.join(parts)}" + (f" ({job.where})" if job.where else "")
