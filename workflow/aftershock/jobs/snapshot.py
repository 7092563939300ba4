"""Progress of a run, as `aftershock status` shows it, from the records of the run and of its jobs."""

import shutil
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aftershock.datasets.table import DATASETS, find_dataset
from aftershock.jobs.gpus import query_gpus
from aftershock.jobs.record import read_jobs
from aftershock.jobs.run import Run, newest_runs, starting_run
from aftershock.jobs.sizes import megabytes, plural
from aftershock.jobs.slurm import SlurmJob

TARGETS = ("all", "facts", "datasets")
"""Rules that only collect the outputs of others."""
NVIDIA_FIELDS = ("index", "name", "utilization.gpu", "memory.used", "memory.total")
NVIDIA_SECONDS = 3.0


@dataclass
class Job:
    """A job that is running."""

    name: str
    age: float
    """Seconds."""
    done: float | None = None
    total: float | None = None
    unit: str = ""
    rate: float | None = None
    """Units a second."""
    edits: int = 0
    """Edits of one unit."""
    peak_bytes: int | None = None
    where: str = ""

    @property
    def left(self) -> float | None:
        """Estimated seconds until it is done; None where it does not count."""
        if not self.rate or self.total is None or self.done is None:
            return None
        return max(self.total - self.done, 0) / self.rate


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
    job_rate: str = ""
    """Rate of a job that is done."""

    @property
    def is_finished(self) -> bool:
        return self.planned is not None and self.done >= self.planned

    @property
    def is_begun(self) -> bool:
        return bool(self.done or self.running or self.failed or self.waiting)

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


@dataclass
class Snapshot:
    """A run at one moment."""

    now: float
    folder: str
    run: Run | None = None
    stages: list[Stage] = field(default_factory=list)
    waiting: int | None = None
    """Jobs that wait for SLURM; None without it."""
    machine: list[str] = field(default_factory=list)
    """Lines about GPUs, SLURM and the disk."""

    @property
    def running(self) -> list[Job]:
        """All running jobs, the oldest first."""
        jobs = [job for stage in self.stages for job in stage.running]
        return sorted(jobs, key=lambda job: -job.age)

    @property
    def at_work(self) -> bool:
        """True if the run is going on."""
        return bool(self.running) if self.run is None else self.run.alive is not False

    @property
    def at_once(self) -> int:
        """Number of jobs in progress; some may not have written a record yet."""
        begun = self.run.in_flight if self.run and not self.run.submitted else 0
        return max(len(self.running), begun, 1)

    @property
    def left(self) -> tuple[float, int]:
        """Seconds until the end if as many jobs run as now, and the number of stages without an estimate."""
        works = [stage.work for stage in self.stages if not stage.is_finished]
        known = [work for work in works if work is not None]
        return sum(known) / self.at_once, len(works) - len(known)

    def left_of(self, stage: Stage) -> float | None:
        """Seconds until a stage is done, if as many of its jobs run as now."""
        others = len(self.running) - len(stage.running)
        return None if stage.work is None else stage.work / max(self.at_once - others, 1)


def take(slurm: Mapping[str, SlurmJob] | None = None) -> Snapshot:
    """The current folder's run now. `slurm` has this folder's jobs, where SLURM was queried."""
    run, records = _shown_run(), read_jobs(slurm)
    if run and run.alive and not run.planned:  # still starting: all records are of earlier runs
        records = []
    found = Snapshot(time.time(), str(Path.cwd()), run, stages_of(run, records, slurm or {}, time.time()))
    found.machine = gpu_lines()
    if slurm is not None:
        reasons = Counter(job.reason or "no reason given" for job in slurm.values() if job.waiting)
        working = [job for job in slurm.values() if job.running]
        waiting = ", ".join(f"{n} waiting ({reason})" for reason, n in reasons.most_common())
        held = f"SLURM: {len(working)} jobs running with {sum(job.gpus for job in working)} GPUs"
        found.waiting = reasons.total()
        found.machine.append(f"{held}; {waiting or 'none waiting'}")
    peak, name = max(
        ((record.get("gpu_peak_bytes") or 0, _name(record)) for record in records), default=(0, "")
    )
    if peak:
        found.machine.append(f"most GPU memory of a job: {megabytes(peak)} ({name})")
    disk = shutil.disk_usage("results" if Path("results").is_dir() else ".")
    found.machine.append(f"disk: {disk.free / 2**30:.1f} of {disk.total / 2**30:.1f} GB free")
    return found


def _shown_run() -> Run | None:
    """The run at work, or the newest one; the one before it where that had nothing to do."""
    runs = newest_runs()
    newest = starting_run() or next(runs, None)
    if newest and newest.exit == 0 and not newest.planned:
        before = next(runs, None)
        return before if before and before.planned and before.exit == 0 else newest
    return newest


def stages_of(
    run: Run | None, records: Sequence[Mapping[str, Any]], slurm: Mapping[str, SlurmJob], now: float
) -> list[Stage]:
    """The stages that a run planned, in its order; without a plan those that have records."""
    by_rule: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        by_rule[record["rule"]].append(record)
    planned = run.planned if run else {}
    stages = [Stage(rule, n) for rule, n in planned.items() if rule not in TARGETS]
    stages = stages or [Stage(rule) for rule in by_rule]
    for stage in stages:
        mine = by_rule[stage.rule]
        done = [record for record in mine if record["state"] == "done"]
        stage.running = [_job(record, now) for record in mine if record["state"] == "running"]
        stage.waiting = sum(job.waiting and job.rule == stage.rule for job in slurm.values())
        stage.done = run.done[stage.rule] if run and run.planned else len(done)
        stage.failed = _failed(run, stage.rule, mine)
        if done:
            stage.job_seconds = sum(record["seconds"] for record in done) / len(done)
            stage.job_rate = _mean_rate([_job(record, now) for record in done])
    return stages


def _failed(run: Run | None, rule: str, records: Sequence[Mapping[str, Any]]) -> int:
    """Jobs that failed and are not being made again."""
    if run is None or not run.planned:
        return sum(record["state"] in ("failed", "stopped", "gone") for record in records)
    again = {record["log"]: record["started"] for record in records if record["state"] == "running"}
    last = {f.log or " ".join(f.outputs): f for f in run.failures if f.rule == rule}
    return sum(not f.restarted and again.get(log, 0) <= f.ended for log, f in last.items())


def _job(record: Mapping[str, Any], now: float) -> Job:
    gpu = f"GPU {record['gpu']}" if record.get("gpu") else ""
    dataset = record.get("wildcards", {}).get("dataset")
    edits = find_dataset(dataset).edits if record["rule"] == "edit" and dataset in DATASETS else 0
    began, first = record.get("began") or (0.0, 0)
    done, seconds = record.get("done"), record["seconds"] - began
    return Job(
        name=_name(record),
        age=max(now - record["started"], 0.0),
        done=done,
        total=record.get("total"),
        unit=record.get("unit") or "",
        rate=(done - first) / seconds or None if done and seconds > 0 else None,
        edits=edits,
        peak_bytes=record.get("peak_bytes"),
        where=" ".join(part for part in (record["host"], gpu) if part),
    )


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['rule']} {Path(record['log']).stem}"


def _mean_rate(jobs: Sequence[Job]) -> str:
    """Rate of one of several jobs that are done; "" where they count different things."""
    rated = [job for job in jobs if job.rate]
    return f"{rate_of(rated, len(rated))} a job" if len({job.unit for job in rated}) == 1 else ""


def rate_of(jobs: Sequence[Job], among: int = 1) -> str:
    """Units and edits a second of jobs that count the same, together or as the mean of so many."""
    rates = [(job.rate or 0.0, job.edits) for job in jobs]
    edits = sum(rate * edits for rate, edits in rates) / among
    text = f"{sum(rate for rate, _ in rates) / among:.3g} {plural(jobs[0].unit)}/s"
    return text + (f", {edits:.3g} edits/s" if edits else "")


def gpu_lines() -> list[str]:
    """A line for each GPU of this machine; none where nvidia-smi does not answer."""
    rows: list[list[str]] = []
    with suppress(subprocess.TimeoutExpired):
        rows = query_gpus(*NVIDIA_FIELDS, seconds=NVIDIA_SECONDS)
    lines = []
    for index, name, *figures in (row for row in rows if len(row) == len(NVIDIA_FIELDS)):
        percent, used, total = (
            float(text) if text.replace(".", "", 1).isdigit() else 0.0 for text in figures
        )
        lines.append(f"GPU {index} {name}: {percent:.0f} % busy, {used / 1024:.1f} of {total / 1024:.1f} GB")
    return lines
