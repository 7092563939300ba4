"""Snapshot of a run's progress, as `aftershock status` shows it."""

import shutil
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aftershock.datasets.table import DATASETS, find_dataset
from aftershock.jobs import liveness
from aftershock.jobs.gpus import query_gpus
from aftershock.jobs.orphans import LastRun
from aftershock.jobs.slurm_jobs import SlurmJob
from aftershock.jobs.snakemake_log import RunLog, newest_runs

TARGETS = ("all", "facts", "datasets")
"""Rules that only collect the outputs of others."""
START_SECONDS = 60.0
"""Largest apparent age of a log before its run."""
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
    finished_rate: tuple[float, str, float] | None = None
    """Units a second of a job that is done, the unit, and edits a second."""

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
        lefts = [job.left for job in self.running]
        per_job = self.job_seconds
        if per_job is None:
            known = [
                job.age + left for job, left in zip(self.running, lefts, strict=True) if left is not None
            ]
            per_job = sum(known) / len(known) if known else None
        if per_job is None:
            return None if self.to_come or self.running else 0.0
        rest = [
            max(per_job - job.age, 0) if left is None else left
            for job, left in zip(self.running, lefts, strict=True)
        ]
        return sum(rest) + self.to_come * per_job


@dataclass
class Gpu:
    """A GPU of this machine."""

    index: str
    name: str
    percent: float
    used_mb: float
    total_mb: float


@dataclass
class SlurmUse:
    """Use of a cluster by the jobs of a folder."""

    running: int
    gpus: int
    waiting: dict[str, int]
    """Waiting jobs by the reason that SLURM gives."""


@dataclass
class Snapshot:
    """A run at one moment."""

    now: float
    folder: str
    info: LastRun | None = None
    run: RunLog | None = None
    stages: list[Stage] = field(default_factory=list)
    gpus: list[Gpu] = field(default_factory=list)
    slurm: SlurmUse | None = None
    disk: tuple[int, int] | None = None
    """Bytes free and in all, where results/ is."""
    gpu_peak: tuple[str, int] | None = None
    """The job with most GPU memory, and its bytes."""

    @property
    def running(self) -> list[Job]:
        """All running jobs, the oldest first."""
        jobs = [job for stage in self.stages for job in stage.running]
        return sorted(jobs, key=lambda job: -job.age)

    @property
    def at_work(self) -> bool:
        """True if the run is going on."""
        if self.info and self.info.alive is not None:
            return self.info.alive
        elsewhere = self.info is not None and self.run is not None and not self.run.ended
        return bool(self.running) or elsewhere

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
    info, records = liveness.newest_run(), liveness.read_jobs(slurm)
    run = _shown(newest_runs())
    starting = bool(info and info.alive and (run is None or run.started < info.began - START_SECONDS))
    if starting:  # still starting: log and records are of the previous run
        run, records = None, []
    disk = shutil.disk_usage("results" if Path("results").is_dir() else ".")
    found = Snapshot(time.time(), str(Path.cwd()), info, run, disk=(disk.free, disk.total), gpus=gpus_here())
    found.stages = stages_of(run, records, slurm or {}, found.now)
    if slurm is not None:
        working = [job for job in slurm.values() if job.running]
        waiting = Counter(job.reason for job in slurm.values() if job.waiting)
        found.slurm = SlurmUse(len(working), sum(job.gpus for job in working), dict(waiting))
    peaks = [(record.get("gpu_peak_bytes") or 0, _name(record)) for record in records]
    if peaks and max(peaks)[0]:
        found.gpu_peak = max(peaks)[1], max(peaks)[0]
    return found


def _shown(runs: Iterator[RunLog]) -> RunLog | None:
    """The newest run; the one before it where that had nothing to do."""
    newest = next(runs, None)
    if newest and newest.complete and not newest.planned:
        before = next(runs, None)
        return before if before and before.planned and before.complete else newest
    return newest


def stages_of(
    run: RunLog | None, records: Sequence[Mapping[str, Any]], slurm: Mapping[str, SlurmJob], now: float
) -> list[Stage]:
    """The stages that a run planned, in its order; without its log those that have records."""
    planned = run.planned if run else {}
    stages = {rule: Stage(rule, planned=n) for rule, n in planned.items() if rule not in TARGETS}
    by_rule: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        by_rule[record["rule"]].append(record)
    if not stages:
        stages = {rule: Stage(rule) for rule in by_rule}
    for rule, stage in stages.items():
        mine = by_rule[rule]
        done = [record for record in mine if record["state"] == "done"]
        stage.running = [_job(record, now) for record in mine if record["state"] == "running"]
        stage.waiting = sum(job.waiting and job.rule == rule for job in slurm.values())
        stage.done = run.done[rule] if run and run.planned else len(done)
        stage.failed = _failed(run, rule, mine)
        if done:
            stage.job_seconds = sum(record["seconds"] for record in done) / len(done)
            stage.finished_rate = _finished_rate(done)
    return list(stages.values())


def gpus_here() -> list[Gpu]:
    """The GPUs of this machine, one without a utilisation as idle; none where nvidia-smi does not answer."""
    rows: list[list[str]] = []
    with suppress(subprocess.TimeoutExpired):
        rows = query_gpus(*NVIDIA_FIELDS, seconds=NVIDIA_SECONDS)
    rows = [row for row in rows if len(row) == len(NVIDIA_FIELDS)]
    return [Gpu(index, name, *map(_number, figures)) for index, name, *figures in rows]


def _number(text: str) -> float:
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _job(record: Mapping[str, Any], now: float) -> Job:
    age, total = max(now - record["started"], 0.0), record.get("total")
    gpu = f"GPU {record['gpu']}" if record.get("gpu") else ""
    return Job(
        name=_name(record),
        age=age,
        done=record.get("done"),
        total=total,
        unit=record.get("unit") or "",
        rate=_rate(record),
        edits=_edits(record),
        peak_bytes=record.get("peak_bytes"),
        where=" ".join(part for part in (record["host"], gpu) if part),
    )


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['rule']} {Path(record['log']).stem}"


def _edits(record: Mapping[str, Any]) -> int:
    """Edits of one case, for jobs that edit."""
    dataset = record.get("wildcards", {}).get("dataset")
    return find_dataset(dataset).edits if record["rule"] == "edit" and dataset in DATASETS else 0


def _rate(record: Mapping[str, Any]) -> float | None:
    """Units a second since the job began to count; None before it has counted any."""
    seconds, done = record.get("began") or (0.0, 0)
    if not record.get("done") or record["seconds"] <= seconds:
        return None
    return (record["done"] - done) / (record["seconds"] - seconds) or None


def _finished_rate(done: Sequence[Mapping[str, Any]]) -> tuple[float, str, float] | None:
    """Units and edits a second of a job, over all that are done and count the same."""
    rated = [(rate, record["unit"], _edits(record)) for record in done if (rate := _rate(record))]
    if not rated or len({unit for _, unit, _ in rated}) > 1:
        return None
    n = len(rated)
    return sum(rate for rate, *_ in rated) / n, rated[0][1], sum(rate * edits for rate, _, edits in rated) / n


def _failed(run: RunLog | None, rule: str, records: Sequence[Mapping[str, Any]]) -> int:
    """Jobs that failed and are not being made again."""
    if run is None or not run.planned:
        return sum(record["state"] in ("failed", "stopped", "gone") for record in records)
    newest = {record["log"]: record for record in records}
    mine = [failure for failure in run.failures if failure.rule == rule]
    last = {failure.log or " ".join(failure.outputs): failure for failure in mine}
    return sum(
        not failure.restarted
        and not (
            log in newest and newest[log]["started"] > failure.ended and newest[log]["state"] == "running"
        )
        for log, failure in last.items()
    )
