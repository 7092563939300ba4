"""Progress of a run, as `aftershock status` draws it from the records of the run and of its jobs.

Once or, on a terminal, every few seconds until the run has ended. It only reads.
"""

import math
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aftershock.jobs.gpus import query_gpus
from aftershock.jobs.job import Job, read_jobs
from aftershock.jobs.run import Run, newest_runs
from aftershock.jobs.sizes import duration, megabytes, moment, plural, printable
from aftershock.project import command

SECONDS = 3.0  # between two drawings
NVIDIA_SECONDS = 3.0
NVIDIA_FIELDS = ("index", "name", "utilization.gpu", "memory.used", "memory.total")
WIDTH = 110  # characters of a line where there is no terminal
BAR = 10
JOBS = 6  # running jobs that are shown one by one
TARGETS = ("all", "facts", "datasets")  # rules that only collect the outputs of others


@dataclass
class Stage:
    """The jobs of one rule."""

    rule: str
    planned: int | None = None
    done: int = 0
    failed: int = 0
    waiting: int = 0  # submitted, but not started by SLURM
    running: list[Job] = field(default_factory=list)
    job_seconds: float | None = None  # mean duration of a job

    @property
    def work(self) -> float | None:
        """Seconds of one worker for the remaining jobs; None where the duration of a job is unknown."""
        known = [job.age + job.left for job in self.running if job.left is not None]
        to_come = max((self.planned or 0) - self.done - self.failed - len(self.running), 0)
        per_job = self.job_seconds or (sum(known) / len(known) if known else None)
        if per_job is None:
            return None if to_come or self.running else 0.0
        rest = [max(per_job - job.age, 0) if job.left is None else job.left for job in self.running]
        return sum(rest) + to_come * per_job


@dataclass
class Snapshot:
    """A run at one moment."""

    run: Run | None = None
    stages: list[Stage] = field(default_factory=list)
    machine: list[str] = field(default_factory=list)  # lines about GPUs and the disk

    @property
    def running(self) -> list[Job]:
        """All running jobs, the oldest first."""
        return sorted((job for stage in self.stages for job in stage.running), key=lambda job: -job.age)

    @property
    def submits(self) -> bool:
        """True if its jobs are submitted to SLURM, and may wait there."""
        return self.run is not None and self.run.job_prefix is not None

    @property
    def at_work(self) -> bool:
        """True if the run is going on."""
        return bool(self.running) if self.run is None else self.run.state == "running"

    @property
    def left(self) -> tuple[float, int]:
        """Seconds until the end if as many jobs run as now, and the number of stages without an estimate."""
        works = [stage.work for stage in self.stages]
        return sum(work or 0.0 for work in works) / max(len(self.running), 1), works.count(None)


def take() -> Snapshot:
    """The current folder's run now."""
    run = next(newest_runs(), None)
    at_work = run is not None and run.state == "running"
    jobs = read_jobs(run.jobs_under_way if run else ())
    if run and at_work and not run.planned:  # still starting: what has ended is of earlier runs
        jobs = [job for job in jobs if job.state == "running"]
    disk = shutil.disk_usage("results" if Path("results").is_dir() else ".")
    free = f"disk: {disk.free / 2**30:.1f} of {disk.total / 2**30:.1f} GB free"
    return Snapshot(run, stages_of(run, jobs), [*gpu_lines(), free])


def stages_of(run: Run | None, jobs: Sequence[Job]) -> list[Stage]:
    """The stages that a run planned, in its order; without a plan those that have records."""
    planned = run.planned if run else {}
    begun = Counter(Path(record).parent.name for record in run.jobs_under_way) if run else Counter()
    rules = [rule for rule in planned if rule not in TARGETS] or dict.fromkeys(job.rule for job in jobs)
    stages = [Stage(rule, planned.get(rule)) for rule in rules]
    for stage in stages:
        mine = [job for job in jobs if job.rule == stage.rule]
        failed = [job for job in mine if job.has_failed and not job.under_way]
        done = [job.age for job in mine if job.state == "done"]
        stage.running = [job for job in mine if job.state == "running"]
        stage.waiting = max(begun[stage.rule] - len(stage.running), 0)
        stage.done, stage.failed = len(done), len(failed)
        stage.job_seconds = sum(done) / len(done) if done else None
        if run and planned:
            stage.done = run.done.get(stage.rule, 0)
            stage.failed = sum(job.last in job.failures and job.last.ended >= run.began for job in failed)
    return stages


def rate_of(jobs: Sequence[Job]) -> str:
    """Units and edits a second of jobs together; "" where they count different things."""
    rates = [(job.rate, job.edits, plural(job.record["unit"])) for job in jobs if job.rate]
    if len({unit for *_, unit in rates}) != 1:
        return ""
    edits = sum(rate * edits for rate, edits, _ in rates)
    text = f"{sum(rate for rate, *_ in rates):.3g} {rates[0][2]}/s"
    return text + (f", {edits:.3g} edits/s" if edits else "")


def gpu_lines() -> list[str]:
    """A line for each GPU of this machine; none where nvidia-smi does not answer."""
    rows: list[list[str]] = []
    with suppress(subprocess.TimeoutExpired):
        rows = query_gpus(*NVIDIA_FIELDS, seconds=NVIDIA_SECONDS)
    return [
        f"GPU {index} {name}: {busy} % busy, {used} of {total} MB"
        for index, name, busy, used, total in (row for row in rows if len(row) == len(NVIDIA_FIELDS))
    ]


# --- drawing ----------------------------------------------------------------------------------------------


def show(once: bool = False) -> None:
    """Draw the view until the run ends where this is a terminal, else, or with `once`, one time."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    if not console.is_interactive or once:
        console.print(draw(take(), console.width))
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            found = take()
            live.update(draw(found, console.width, console.height), refresh=True)
            if not found.at_work:
                return  # the last view stays
            time.sleep(SECONDS)


def draw(found: Snapshot, width: int, height: int | None = None) -> Group:
    """The view, at most `width` wide; where it is higher than `height`, idle stages are only named."""
    above, below, shown = _head(found), _below(found), found.stages
    if height and len(above) + len(shown) + len(below) + 2 > height:
        shown = [stage for stage in found.stages if stage.running or stage.waiting or stage.failed]
        idle = [stage.rule for stage in found.stages if stage not in shown]
        below.insert(0, _line(f"{len(idle)} stages idle: {', '.join(idle)}", "dim"))
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
    done, failed, queued = (sum(getattr(s, name) for s in stages) for name in ("done", "failed", "waiting"))
    planned = sum(stage.planned or 0 for stage in stages)
    of = f" of {planned} jobs done ({100 * done // planned} %)" if planned else " jobs done"
    waiting = f", {queued} waiting for SLURM" if found.submits else ""
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
    seconds, unknown = found.left
    if not found.at_work:
        return ""
    if unknown and seconds:
        return f"; at least {duration(seconds)} left ({unknown} stages not known yet)"
    return "; time left not known yet" if unknown else f"; about {duration(seconds)} left"


def _table(stages: Sequence[Stage], found: Snapshot, width: int) -> Table:
    """A row for each stage; columns that do not fit are left out."""
    columns: list[tuple[str, Callable[[Stage], object], bool]] = [  # title, cell, True if shown
        ("stage", lambda s: s.rule, True),
        ("done", lambda s: s.done, True),
        ("of", lambda s: "?" if s.planned is None else s.planned, True),
        ("running", lambda s: len(s.running) or "-", True),
        ("waiting", lambda s: s.waiting or "-", found.submits),
        ("failed", lambda s: s.failed or "-", True),
        ("", _bar, width >= 70),
        ("a job takes", lambda s: duration(s.job_seconds) if s.job_seconds else "", width >= 80),
        ("left", _left_of, width >= 60 and found.at_work),
        ("rate", lambda s: rate_of(s.running), width >= 90),
    ]
    columns = [column for column in columns if column[2]]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title, *_ in columns:
        table.add_column(title, justify="left" if title in ("stage", "", "rate") else "right", no_wrap=True)
    for stage in stages:
        ended = "green" if stage.done >= (stage.planned or math.inf) else "dim"
        style = "red" if stage.failed else "" if stage.running else ended
        table.add_row(*(str(cell(stage)) for _, cell, _ in columns), style=style)
    return table


def _left_of(stage: Stage) -> str:
    """Time until a stage is done, if as many of its jobs run as now."""
    return duration(stage.work / max(len(stage.running), 1)) if stage.work and stage.planned else ""


def _bar(stage: Stage) -> str:
    """Progress bar; running jobs count by their own progress."""
    if not stage.planned:
        return ""
    counts = [(job.record.get("done"), job.record.get("total")) for job in stage.running]
    parts = sum(done / total for done, total in counts if done and total)
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
