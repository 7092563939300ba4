"""Progress of a run, as `aftershock status` tells it by the records of the run and of its jobs."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aftershock.jobs.run import Job, Run, read_jobs, read_run
from aftershock.jobs.sizes import aligned, duration, megabytes, moment, printable
from aftershock.project import command

WIDTH = 110  # characters of a line where there is no terminal
JOBS = 6  # running jobs that are shown one by one
TITLES = ("stage", "done", "of", "running", "waiting", "failed", "a job takes", "left")
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


def show() -> None:
    """Print the view, each line as wide as the terminal at most."""
    width = shutil.get_terminal_size((WIDTH, 0)).columns
    for line in map(str.rstrip, draw(*take())):
        print(line if len(line) <= width else f"{line[: width - 3]}...")


def at_work(run: Run | None) -> bool:
    """True if there is a run that is going on."""
    return run is not None and run.state == "running"


def take() -> tuple[Run | None, list[Stage]]:
    """The current folder's newest run and the stages that it planned; without a plan those with records."""
    run = read_run()
    jobs, planned = read_jobs([run] if run else []), run.planned if run else {}
    going_on = at_work(run)
    if going_on and not planned:  # still starting: what has ended is of earlier runs
        jobs = [job for job in jobs if job.state == "running"]
    begun = Counter(Path(record).parent.name for record in run.active) if run and going_on else Counter()
    rules = [rule for rule in planned if rule not in TARGETS] or dict.fromkeys(job.rule for job in jobs)
    stages = [Stage(rule, planned.get(rule)) for rule in rules]
    for stage in stages:
        mine = [job for job in jobs if job.rule == stage.rule]
        done = [job.age for job in mine if job.state == "done"]
        failed = [job for job in mine if job.attempts and not job.under_way]
        stage.running = [job for job in mine if job.state == "running"]
        stage.waiting = max(begun[stage.rule] - len(stage.running), 0)
        stage.done, stage.failed = len(done), len(failed)
        stage.job_seconds = sum(done) / len(done) if done else None
        if run and planned:
            stage.done = run.done.get(stage.rule, 0)
            stage.failed = sum(job.ended >= run.began for job in failed)
    return run, stages


# --- drawing ----------------------------------------------------------------------------------------------


def draw(run: Run | None, stages: Sequence[Stage]) -> Iterator[str]:
    """Yield the lines of the view: the run, its stages, its running jobs and the disk."""
    if run is None and not stages:
        yield "No run has left anything here yet."
    else:
        yield f"{_state(run)}   {Path.cwd()}"
    if run and run.last:
        yield f"{time.strftime('%H:%M:%S', time.localtime(run.last_time))}  {printable(run.last)}"
    running = sorted((job for stage in stages for job in stage.running), key=lambda job: -job.age)
    if stages:
        yield from _sums(run, stages, len(running))
        yield ""
        yield from aligned([TITLES, *(_cells(stage, at_work(run)) for stage in stages)], left=[0])
    elif at_work(run):
        yield "looking at what is there"
    if running:
        yield from ("", "running, the slowest first")
        yield from map(_told, running[:JOBS])
    if len(running) > JOBS:
        yield f"  and {len(running) - JOBS} more"
    disk = shutil.disk_usage("results" if Path("results").is_dir() else ".")
    yield ""
    yield f"disk: {disk.free / 2**30:.1f} of {disk.total / 2**30:.1f} GB free"


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


def _sums(run: Run | None, stages: Sequence[Stage], running: int) -> Iterator[str]:
    """Yield the numbers of all jobs, and the time until the end if as many run as now."""
    planned, done = (sum(getattr(stage, name) or 0 for stage in stages) for name in ("planned", "done"))
    failed, waiting = (sum(getattr(stage, name) for stage in stages) for name in ("failed", "waiting"))
    of = f" of {planned} jobs done ({100 * done // planned} %)" if planned else " jobs done"
    queued = f", {waiting} waiting" if waiting else ""
    left = ""
    if at_work(run):
        works = [stage.work for stage in stages]
        seconds, unknown = sum(work or 0.0 for work in works) / max(running, 1), works.count(None)
        left = f"; {'at least' if unknown else 'about'} {duration(seconds)} left"
        left += f" ({unknown} stages not known yet)" if unknown else ""
    yield f"{done}{of}, {running} running{queued}{left}"
    if failed:
        yield f"{failed} failed: `{command('why')}` tells why"


def _cells(stage: Stage, going_on: bool) -> list[str]:
    """The row of a stage, below TITLES."""
    left = stage.work / max(len(stage.running), 1) if stage.work and stage.planned and going_on else 0
    return [
        stage.rule,
        str(stage.done),
        "?" if stage.planned is None else str(stage.planned),
        *(str(n or "-") for n in (len(stage.running), stage.waiting, stage.failed)),
        duration(stage.job_seconds) if stage.job_seconds else "",
        duration(left) if left else "",
    ]


def _told(job: Job) -> str:
    """A running job in a line: progress comes first, as its name may be cut off."""
    left = f"{duration(job.left)} left" if job.left is not None else ""
    memory = megabytes(job.record["peak_bytes"]) if job.record.get("peak_bytes") else ""
    gpu = f" GPU {job.record['gpu']}" if job.record.get("gpu") else ""
    parts = filter(None, [duration(job.age), job.progress, left, memory])
    return f"  {job.name}: {', '.join(parts)} ({job.record['host']}{gpu})"
