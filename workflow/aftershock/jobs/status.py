"""The text of `aftershock status`, drawn once or, on a terminal, every few seconds until the run has ended.

It only reads. No line is longer than the terminal is wide.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aftershock.jobs import slurm
from aftershock.jobs.job import Job
from aftershock.jobs.run import Run
from aftershock.jobs.sizes import duration, megabytes, moment, printable
from aftershock.jobs.snapshot import Snapshot, Stage, rate_of, take
from aftershock.project import command

SECONDS = 3.0
"""Seconds between two drawings."""
SLURM_SECONDS = 15.0
"""Seconds between two queries of SLURM, whose controller is shared."""
WIDTH = 110
"""Characters of a line where there is no terminal."""
BAR = 10
JOBS = 6
"""Running jobs that are shown one by one."""


def show(once: bool = False) -> None:
    """Draw the view until the run ends where this is a terminal, else, or with `once`, one time."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    if console.is_interactive and not once:
        watch(console)
    else:
        console.print(draw(take(_slurm()), console.width))


def watch(console: Console) -> None:
    """Draw until the run has ended; the last view stays."""
    jobs, asked = None, -math.inf
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            if time.monotonic() - asked > SLURM_SECONDS:
                jobs, asked = _slurm(), time.monotonic()
            found = take(jobs)
            live.update(draw(found, console.width, console.height), refresh=True)
            if not found.at_work:
                return
            time.sleep(SECONDS)


def _slurm() -> Mapping[str, slurm.SlurmJob] | None:
    """This folder's SLURM jobs; None where none was ever submitted from it, or SLURM is silent."""
    return slurm.known_jobs(Path.cwd()) if slurm.LOGS.is_dir() else None


def draw(found: Snapshot, width: int, height: int | None = None) -> Group:
    """The view, at most `width` wide; where it is higher than `height`, idle stages are only named."""
    above, below = _head(found), _below(found)
    shown, idle = found.stages, list[Stage]()
    if height and len(above) + len(shown) + len(below) + 2 > height:
        shown = [stage for stage in found.stages if not stage.is_idle]
        idle = [stage for stage in found.stages if stage.is_idle]
        below.insert(0, _line(f"{len(idle)} stages idle: {', '.join(stage.rule for stage in idle)}", "dim"))
    table = (_line(), _table(shown, found, width)) if found.stages else ()
    return Group(*above, *table, *below)


def _line(text: str = "", style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _head(found: Snapshot) -> list[Text]:
    """Identity of the run, its last message, the number of all jobs, and the time when they may be done."""
    run, stages = found.run, found.stages
    if run is None and not stages:
        return [_line("No run has left anything here yet.", "bold")]
    lines = [_line(f"{_state(run)}   {Path.cwd()}", "bold")]
    if run and run.last:
        at = time.strftime("%H:%M:%S", time.localtime(run.last_time))
        lines.append(_line(f"{at}  {printable(run.last)}"))
    if not stages:
        return [*lines, _line("looking at what is there")] if found.at_work else lines
    done, planned, failed = (
        sum(numbers) for numbers in zip(*((s.done, s.planned or 0, s.failed) for s in stages), strict=True)
    )
    of = f" of {planned} jobs done ({100 * done // planned} %)" if planned else " jobs done"
    waiting = "" if found.waiting is None else f", {found.waiting} waiting for SLURM"
    lines.append(_line(f"{done}{of}, {len(found.running)} running{waiting}{_left(found)}"))
    if failed:
        lines.append(_line(f"{failed} failed: `{command('why')}` tells why", "red"))
    return lines


def _state(run: Run | None) -> str:
    """State of the run: running, or how it ended."""
    if run is None:
        return "no run is at work"
    resume, why = f"(`{command('resume')}` goes on)", f"(`{command('why')}` tells why)"
    at, took = moment(run.last_time), duration(run.last_time - run.began)
    doing = "being ended by its user after" if run.stopped else "running for"
    return {
        "running": f"{doing} {duration(time.time() - run.began)}, process {run.pid} on {run.host}",
        "finished": f"finished {at} after {took}",
        "stopped": f"ended by its user {at} after {took} {resume}",
        "killed": f"killed after {at} {resume}",
        "unready": f"stopped {at} before its first job {why}",
        "failed": f"ended {at} after {took} with failures {why}",
    }[run.state]


def _left(found: Snapshot) -> str:
    if not found.at_work:
        return ""
    seconds, unknown = found.left
    if unknown:
        known = f"at least {duration(seconds)} left ({unknown} stages not known yet)"
        return f"; {known}" if seconds else "; time left not known yet"
    return f"; about {duration(seconds)} left"


def _table(stages: Sequence[Stage], found: Snapshot, width: int) -> Table:
    """A row for each stage; columns that do not fit are left out."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    columns: list[tuple[str, Callable[[Stage], object], bool]] = [  # title, cell, True if shown
        ("stage", lambda s: s.rule, True),
        ("done", lambda s: s.done, True),
        ("of", lambda s: "?" if s.planned is None else s.planned, True),
        ("running", lambda s: len(s.running) or "-", True),
        ("waiting", lambda s: s.waiting or "-", found.waiting is not None),
        ("failed", lambda s: s.failed or "-", True),
        ("", _bar, width >= 70),
        ("a job takes", lambda s: duration(s.job_seconds) if s.job_seconds else "", width >= 80),
        ("left", lambda s: duration(s.left) if s.left and s.planned else "", width >= 60 and found.at_work),
        ("rate", lambda s: rate_of(s.running), width >= 90),
    ]
    columns = [column for column in columns if column[2]]
    for title, *_ in columns:
        table.add_column(title, justify="left" if title in ("stage", "", "rate") else "right", no_wrap=True)
    for stage in stages:
        ended = "green" if stage.is_finished else "dim"
        style = "red" if stage.failed else "" if stage.running else ended
        table.add_row(*(str(cell(stage)) for _, cell, _ in columns), style=style)
    return table


def _bar(stage: Stage) -> str:
    """Progress bar; running jobs count by their own progress."""
    if not stage.planned:
        return ""
    parts = sum(job.part for job in stage.running)
    full = int(BAR * min((stage.done + parts) / stage.planned, 1.0))
    return "#" * full + "." * (BAR - full)


def _below(found: Snapshot) -> list[Text]:
    """Running jobs and the machine."""
    running = [_line(), _line("running, the slowest first", "bold")] if found.running else []
    running += [_line(_told(job)) for job in found.running[:JOBS]]
    if len(found.running) > JOBS:
        running.append(_line(f"  and {len(found.running) - JOBS} more", "dim"))
    return [*running, _line(), *map(_line, found.machine)]


def _told(job: Job) -> str:
    """A running job in a line: progress comes first, as its name may be cut off."""
    parts = [duration(job.age), job.progress, rate_of([job])]
    if job.left is not None:
        parts.append(f"{duration(job.left)} left")
    if job.record.get("peak_bytes"):
        parts.append(megabytes(job.record["peak_bytes"]))
    gpu = f" GPU {job.record['gpu']}" if job.record.get("gpu") else ""
    return f"  {job.name}: {', '.join(filter(None, parts))} ({job.record['host']}{gpu})"
