"""A job as `aftershock status` and `aftershock why` see it.

Its own record is written by the job, see `record`; the file of its failed attempts, beside the record, by the
runs that saw them. That file is there from a failure until the job has succeeded.
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aftershock.datasets.table import DATASETS, find_dataset
from aftershock.jobs.record import FOLDER, NEEDED, is_running, read_record
from aftershock.jobs.sizes import plural
from aftershock.jobs.slurm import SlurmJob
from aftershock.output import write_text

REFUSED = re.compile("ubmission failed|sbatch failed")


@dataclass
class Failure:
    """One failed attempt at a job."""

    ended: float
    """Seconds since 1970."""
    message: str = ""
    """Snakemake's messages."""
    log: str = ""
    """The rule's log."""
    slurm_job: str | None = None


@dataclass
class Job:
    """A job by its own record, by its failed attempts, by logs and by SLURM."""

    rule: str
    log: str
    record: dict[str, Any] = field(default_factory=dict)
    """Empty where it has none."""
    failures: list[Failure] = field(default_factory=list)
    under_way: bool = False
    """True if a run that is alive has begun it, or it waits for SLURM."""
    slurm: SlurmJob = SlurmJob("", "")
    """Its last attempt in SLURM."""
    slurm_logs: Sequence[str] = ()
    """The ends of SLURM's logs, one an attempt."""
    log_end: str = ""
    """The end of its own log."""
    profile: str = "the profile's config.yaml"
    """The file of its run's profile."""

    @property
    def name(self) -> str:
        return f"{self.rule} {Path(self.log).stem}"

    @property
    def state(self) -> str | None:
        """State in its record; None without one."""
        return self.record.get("state")

    @property
    def age(self) -> float:
        """Seconds that it has run, when its record was last written."""
        return self.record.get("seconds", 0.0)

    @property
    def progress(self) -> str:
        """Progress such as "7 of 32 cases"; "" where it does not count."""
        done, total = self.record.get("done"), self.record.get("total")
        return "" if done is None or not total else f"{done:g} of {total:g} {plural(self.record['unit'])}"

    @property
    def part(self) -> float:
        """Part of it that is done; 0 where it does not count."""
        return (self.record.get("done") or 0) / (self.record.get("total") or math.inf)

    @property
    def rate(self) -> float | None:
        """Units a second."""
        began, first = self.record.get("began") or (0.0, 0)
        done, seconds = self.record.get("done"), self.age - began
        return (done - first) / seconds or None if done and seconds > 0 else None

    @property
    def edits(self) -> int:
        """Edits of one unit."""
        dataset = self.record.get("wildcards", {}).get("dataset")
        return find_dataset(dataset).edits if self.rule == "edit" and dataset in DATASETS else 0

    @property
    def left(self) -> float | None:
        """Estimated seconds until it is done; None where it does not count."""
        if not self.rate or self.record.get("total") is None:
            return None
        return max(self.record["total"] - self.record["done"], 0) / self.rate

    @property
    def last(self) -> Failure | None:
        """Its last failure; None where its record is of an attempt after it."""
        if not self.failures or self.record and self.record["started"] > self.failures[-1].ended:
            return None
        return self.failures[-1]

    @property
    def has_failed(self) -> bool:
        """True if its last attempt has failed."""
        return self.last is not None or self.state in ("failed", "stopped", "gone")

    @property
    def message(self) -> str:
        """Snakemake's messages about its last attempt."""
        return self.last.message if self.last else ""

    @property
    def attempts(self) -> int:
        """Number of its attempts that failed."""
        return len(self.failures) + (self.last is None)

    @property
    def slurm_log(self) -> str:
        """The end of SLURM's log of its last attempt."""
        return self.slurm_logs[-1] if self.slurm_logs else ""

    @property
    def slurm_job(self) -> str | None:
        """The SLURM job of its last attempt."""
        return self.last.slurm_job if self.last else self.record.get("slurm_job")

    @property
    def ended(self) -> float:
        """Time of its last failure, in seconds since 1970."""
        return self.last.ended if self.last else self.record["started"] + self.age


def failures_path(record: Path) -> Path:
    """Path of the failed attempts at the job with this record."""
    return record.with_suffix(".failures")


def read_failures(record: Path) -> list[Failure]:
    """The failed attempts at the job with this record since it last succeeded; none of a damaged file."""
    with suppress(OSError, ValueError, TypeError):
        return [Failure(**each) for each in json.loads(failures_path(record).read_text(encoding="utf-8"))]
    return []


def note_failure(record: Path, failure: Failure) -> None:
    """Add a failed attempt at the job with this record."""
    failures = [asdict(each) for each in (*read_failures(record), failure)]
    write_text(failures_path(record), json.dumps(failures))


def read_jobs(slurm: Mapping[str, SlurmJob] | None, active: Collection[str] = ()) -> list[Job]:
    """The jobs of the current folder that have begun. One that has vanished has the state "gone".

    `slurm` has the jobs that SLURM knows, None where it cannot be asked; `active` the records of those under
    way. A record of an attempt before the last, which did not reach its stage, is left out.
    """
    jobs = []
    for path in sorted({path.with_suffix(".json") for path in FOLDER.glob("*/*.*")}):
        record, failures = read_record(path), read_failures(path)
        if not record.keys() >= NEEDED:
            record = {}
        if record.get("state") == "running" and not is_running(record, slurm):
            record["state"] = "gone"
        log = record.get("log") or failures and failures[-1].log or path.stem
        job = Job(path.parent.name, log, record, failures)
        submitted = (slurm or {}).get(record.get("slurm_job"))
        job.under_way = str(path) in active or bool(submitted and submitted.waiting)
        numbers = {job.slurm_job, record.get("slurm_job")} - {None}
        if REFUSED.search(job.message) or len(numbers) > 1:
            job.record = {}
        if record or failures:
            jobs.append(job)
    return jobs
