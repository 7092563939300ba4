"""The text of `aftershock status`: lines no longer than the terminal is wide."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aftershock.jobs.sizes import aligned, duration, megabytes, plural, printable
from aftershock.jobs.snapshot import Job, Snapshot, Stage
from aftershock.project import command

BAR = 10
JOBS = 6
"""Running jobs that are shown one by one."""
STYLES = {"bold": "\x1b[1m", "bad": "\x1b[31m", "dim": "\x1b[2m", "good": "\x1b[32m"}
RESET = "\x1b[0m"


class Line(NamedTuple):
    """A line of text in one style."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column of the table of stages."""

    title: str
    cell: Callable[[Stage], str]
    left: bool = False
    since: int = 0
    """Width of a terminal from which on there is room for it."""


def draw(found: Snapshot, width: int, height: int | None = None, colour: bool = False) -> list[str]:
    """Lines of at most `width` characters; above `height` lines, idle stages are summed up."""
    stages = found.stages
    lines = _lines(found, stages, [], width)
    if height is not None and len(lines) > height:
        ended = [stage for stage in stages if stage.is_finished]
        stages = [stage for stage in stages if not stage.is_finished]
        lines = _lines(found, stages, [_sum("finished", ended)], width)
    if height is not None and len(lines) > height:
        later = [stage for stage in stages if not stage.is_begun]
        stages = [stage for stage in stages if stage.is_begun]
        lines = _lines(found, stages, [_sum("finished", ended), _sum("to come", later)], width)[:height]
    return [_painted(line, width, colour) for line in lines]


def _painted(line: Line, width: int, colour: bool) -> str:
    text = line.text if len(line.text) <= width else f"{line.text[: width - 3]}..."
    return f"{STYLES[line.style]}{text}{RESET}" if colour and line.style and text else text.rstrip()


def _lines(found: Snapshot, stages: Sequence[Stage], sums: Sequence[str], width: int) -> list[Line]:
    lines = [*_head(found), *_total(found)]
    if found.stages:
        lines += [Line(""), *_table(stages, found, width)]
        lines += [Line(text, "dim") for text in sums if text]
    if found.running:
        lines += [Line(""), Line("running, the slowest first", "bold")]
        lines += [Line(_told(job)) for job in found.running[:JOBS]]
        if len(found.running) > JOBS:
            lines.append(Line(f"  and {len(found.running) - JOBS} more", "dim"))
    return [*lines, *_machine(found)]


def _head(found: Snapshot) -> list[Line]:
    """Identity of the run, and its last message."""
    info, run = found.info, found.run
    if info is None and run is None:
        return [Line("No run has left anything here yet.", "bold")]
    lines = [Line(f"{_what(found)}   {found.folder}", "bold")]
    if run and run.last:
        at = time.strftime("%H:%M:%S", time.localtime(run.last_time))
        lines.append(Line(f"{at}  {printable(run.last)}"))
    return lines


def _what(found: Snapshot) -> str:
    """State of the run: running, or how it ended."""
    info, run = found.info, found.run
    if found.at_work:
        since = info.began if info else (run.started if run else found.now)
        by = f", process {info.pid} on {info.host}" if info else ""
        doing = "being ended by its user after" if run and run.stopped else "running for"
        return f"{doing} {duration(found.now - since)}{by}"
    if run is None:
        return "no run is at work"
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.last_time))
    took = duration(run.last_time - run.started)
    if run.error and not run.planned:
        return f"stopped {at} before its first job (`{command('why')}` tells why)"
    if run.complete:
        return f"finished {at} after {took}"
    if run.stopped:
        return f"ended by its user {at} after {took} (`{command('resume')}` goes on)"
    if run.ended or run.error:
        return f"ended {at} after {took} with failures (`{command('why')}` tells of them)"
    return f"killed after {at} (`{command('resume')}` goes on)"


def _total(found: Snapshot) -> list[Line]:
    """Number of all jobs, and the time when they may be done."""
    stages, planned = found.stages, sum(stage.planned or 0 for stage in found.stages)
    if not stages:
        return [Line("looking at what is there")] if found.at_work else []
    done, failed = sum(stage.done for stage in stages), sum(stage.failed for stage in stages)
    parts = [f"{done} of {planned} jobs done ({100 * done // planned} %)" if planned else f"{done} jobs done"]
    parts.append(f"{len(found.running)} running")
    if found.slurm:
        parts.append(f"{sum(found.slurm.waiting.values())} waiting for SLURM")
    lines = [Line(", ".join(parts) + _left(found))]
    if failed:
        lines.append(Line(f"{failed} failed: `{command('why')}` tells why", "bad"))
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
    columns = [column for column in _columns(found) if width >= column.since]
    rows = [[column.title for column in columns], *([c.cell(stage) for c in columns] for stage in stages)]
    texts = aligned(rows, [i for i, column in enumerate(columns) if column.left])
    styles = ["bold", *map(_style, stages)]
    return [Line(text, style) for text, style in zip(texts, styles, strict=True)]


def _style(stage: Stage) -> str:
    if stage.failed:
        return "bad"
    if stage.running:
        return ""
    return "good" if stage.is_finished else "dim"


def _columns(found: Snapshot) -> list[Column]:
    number = lambda n: str(n) if n else "-"  # noqa: E731
    columns = [
        Column("stage", lambda s: s.rule, left=True),
        Column("done", lambda s: str(s.done)),
        Column("of", lambda s: "?" if s.planned is None else str(s.planned)),
        Column("running", lambda s: number(len(s.running))),
        Column("waiting", lambda s: number(s.waiting)),
        Column("failed", lambda s: number(s.failed)),
        Column("", _bar, left=True, since=70),
        Column("a job takes", lambda s: duration(s.job_seconds) if s.job_seconds else "", since=80),
        Column("left", lambda s: _stage_left(s, found), since=60),
        Column("rate", _stage_rate, left=True, since=90),
    ]
    shown = {"waiting": found.slurm, "left": found.at_work}
    return [column for column in columns if shown.get(column.title, True)]


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


def _stage_rate(stage: Stage) -> str:
    """Rate of all running jobs together, or of one that is done."""
    rated = [(job.rate, job) for job in stage.running if job.rate]
    if rated and len({job.unit for _, job in rated}) == 1:
        edits = sum(rate * job.edits for rate, job in rated)
        return _rate(sum(rate for rate, _ in rated), rated[0][1].unit, edits)
    if stage.finished_rate:
        return _rate(*stage.finished_rate) + " a job"
    return ""


def _rate(rate: float, unit: str, edits: float = 0) -> str:
    return f"{rate:.3g} {plural(unit)}/s" + (f", {edits:.3g} edits/s" if edits else "")


def _told(job: Job) -> str:
    """A running job in a line: progress comes first, as its name may be cut off."""
    parts = [duration(job.age)]
    if job.done is not None and job.total:
        parts.append(f"{job.done:g} of {job.total:g} {plural(job.unit)}")
    if job.rate:
        parts.append(_rate(job.rate, job.unit, job.rate * job.edits))
    if job.left is not None:
        parts.append(f"{duration(job.left)} left")
    if job.peak_bytes:
        parts.append(megabytes(job.peak_bytes))
    return f"  {job.name}: {', '.join(parts)}" + (f" ({job.where})" if job.where else "")


def _machine(found: Snapshot) -> list[Line]:
    """GPUs and disk."""
    lines = []
    for gpu in found.gpus:
        used, total = gpu.used_mb / 1024, gpu.total_mb / 1024
        lines.append(f"GPU {gpu.index} {gpu.name}: {gpu.percent:.0f} % busy, {used:.1f} of {total:.1f} GB")
    if found.slurm:
        waiting = ", ".join(f"{n} waiting ({reason})" for reason, n in found.slurm.waiting.items())
        held = f"SLURM: {found.slurm.running} jobs running with {found.slurm.gpus} GPUs"
        lines.append(f"{held}; {waiting or 'none waiting'}")
    if found.gpu_peak:
        lines.append(f"most GPU memory of a job: {megabytes(found.gpu_peak[1])} ({found.gpu_peak[0]})")
    if found.disk:
        free, total = found.disk
        lines.append(f"disk: {free / 2**30:.1f} of {total / 2**30:.1f} GB free")
    return [Line(""), *map(Line, lines)] if lines else []


def _sum(what: str, stages: Sequence[Stage]) -> str:
    """Summary of the stages that are not listed."""
    if not stages:
        return ""
    jobs = sum(stage.planned or stage.done for stage in stages)
    return f"{len(stages)} stages {what} ({jobs} jobs): {', '.join(stage.rule for stage in stages)}"
