"""Progress of a run, as `aftershock status` shows it, from the records of the run and of its jobs."""

import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aftershock.jobs.gpus import query_gpus
from aftershock.jobs.job import Job
from aftershock.jobs.record import read_jobs
from aftershock.jobs.run import Run, newest_runs
from aftershock.jobs.sizes import plural
from aftershock.jobs.slurm import SlurmJob

TARGETS = ("all", "facts", "datasets")
"""Rules that only collect the outputs of others."""
NVIDIA_FIELDS = ("index", "name", "utilization.gpu", "memory.used", "memory.total")
NVIDIA_SECONDS = 3.0


@dataclass
class Stage:
    """The jobs of one rule."""

    rule: str
    planned: int | None = None
    done: int = 0
    failed: int = 0
    waiting: int = 0
    """Submitted, but not started by SLURM."""
    running: list[Job] = field(default_factory=list)
    job_seconds: float | None = None
    """Mean duration of a job."""

    @property
    def is_idle(self) -> bool:
        """True if nothing of it runs, waits or has failed."""
        return not (self.running or self.waiting or self.failed)

    @property
    def is_finished(self) -> bool:
        return self.planned is not None and self.done >= self.planned

    @property
    def to_come(self) -> int:
        """Jobs that have not started."""
        return max((self.planned or 0) - self.done - self.failed - len(self.running), 0)

    @property
    def work(self) -> float | None:
        """Seconds of one worker for the remaining jobs; None where the duration of a job is unknown."""
        known = [job.age + job.left for job in self.running if job.left is not None]
        per_job = self.job_seconds or (sum(known) / len(known) if known else None)
        if per_job is None:
            return None if self.to_come or self.running else 0.0
        rest = [max(per_job - job.age, 0) if job.left is None else job.left for job in self.running]
        return sum(rest) + self.to_come * per_job

    @property
    def left(self) -> float | None:
        """Seconds until it is done, if as many of its jobs run as now."""
        return None if self.work is None else self.work / max(len(self.running), 1)


@dataclass
class Snapshot:
    """A run at one moment."""

    run: Run | None = None
    stages: list[Stage] = field(default_factory=list)
    waiting: int | None = None
    """Jobs that wait for SLURM; None without it."""
    machine: list[str] = field(default_factory=list)
    """Lines about GPUs, SLURM and the disk."""

    @property
    def running(self) -> list[Job]:
        """All running jobs, the oldest first."""
        return sorted((job for stage in self.stages for job in stage.running), key=lambda job: -job.age)

    @property
    def at_work(self) -> bool:
        """True if the run is going on."""
        return bool(self.running) if self.run is None else self.run.state == "running"

    @property
    def left(self) -> tuple[float, int]:
        """Seconds until the end if as many jobs run as now, and the number of stages without an estimate."""
        works = [stage.work for stage in self.stages if not stage.is_finished]
        known = [work for work in works if work is not None]
        return sum(known) / max(len(self.running), 1), len(works) - len(known)


def take(slurm: Mapping[str, SlurmJob] | None = None) -> Snapshot:
    """The current folder's run now. `slurm` has this folder's jobs, where SLURM was queried."""
    run, records = next(newest_runs(), None), read_jobs(slurm)
    if run and run.alive and not run.planned:  # still starting: what has ended is of earlier runs
        records = [record for record in records if record["state"] == "running"]
    found = Snapshot(run, stages_of(run, records, slurm or {}), machine=gpu_lines())
    if slurm is not None:
        reasons = Counter(job.reason or "no reason given" for job in slurm.values() if job.waiting)
        working = [job for job in slurm.values() if job.running]
        waiting = ", ".join(f"{n} waiting ({reason})" for reason, n in reasons.most_common())
        held = f"SLURM: {len(working)} jobs running with {sum(job.gpus for job in working)} GPUs"
        found.waiting = reasons.total()
        found.machine.append(f"{held}; {waiting or 'none waiting'}")
    disk = shutil.disk_usage("results" if Path("results").is_dir() else ".")
    found.machine.append(f"disk: {disk.free / 2**30:.1f} of {disk.total / 2**30:.1f} GB free")
    return found


def stages_of(
    run: Run | None, records: Sequence[dict[str, Any]], slurm: Mapping[str, SlurmJob]
) -> list[Stage]:
    """The stages that a run planned, in its order; without a plan those that have records."""
    by_rule: dict[str, list[Job]] = defaultdict(list)
    for record in records:
        by_rule[record["rule"]].append(Job(record["rule"], record["log"], record))
    planned = run.planned if run else {}
    stages = [Stage(rule, n) for rule, n in planned.items() if rule not in TARGETS]
    stages = stages or [Stage(rule) for rule in by_rule]
    for stage in stages:
        done = [job for job in by_rule[stage.rule] if job.state == "done"]
        stage.running = [job for job in by_rule[stage.rule] if job.state == "running"]
        stage.waiting = sum(job.waiting and job.rule == stage.rule for job in slurm.values())
        stage.done = run.done[stage.rule] if run and run.planned else len(done)
        stage.failed = _failed(run, stage.rule, by_rule[stage.rule])
        if done:
            stage.job_seconds = sum(job.age for job in done) / len(done)
    return stages


def _failed(run: Run | None, rule: str, jobs: Sequence[Job]) -> int:
    """Jobs that failed and are not being made again."""
    if run is None or not run.planned:
        return sum(job.state in ("failed", "stopped", "gone") for job in jobs)
    again = {job.log: job.record["started"] for job in jobs if job.state == "running"}
    last = {f.log or " ".join(f.outputs): f for f in run.failures if f.rule == rule}
    return sum(not f.restarted and again.get(log, 0) <= f.ended for log, f in last.items())


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
