"""A job as `aftershock status` and `aftershock why` see it.

Its own record is written by the job, see `record`; the file of its failed attempts, beside the record, by the
runs that saw them. That file is there from a failure until the job has succeeded.
"""

import json
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aftershock.datasets.table import DATASETS, find_dataset
from aftershock.jobs.record import FOLDER, NEEDED, is_running, read_record
from aftershock.jobs.sizes import plural
from aftershock.output import write_text

REFUSED = re.compile("ubmission failed|sbatch failed")


@dataclass
class Failure:
    """One failed attempt at a job."""

    ended: float  # seconds since 1970
    message: str = ""  # Snakemake's messages
    log: str = ""  # the rule's log
    slurm_job: str | None = None


@dataclass
class Job:
    """A job by its own record, by its failed attempts, and by logs."""

    rule: str
    log: str
    record: dict[str, Any] = field(default_factory=dict)  # empty where it has none
    failures: list[Failure] = field(default_factory=list)
    under_way: bool = False  # true if a run that is alive has begun it
    slurm_logs: str = ""  # the ends of SLURM's logs of all attempts
    slurm_log: str = ""  # that of the last one
    log_end: str = ""  # the end of its own log
    profile: str = "the profile's config.yaml"  # the file of its run's profile

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
    def last(self) -> Failure:
        """Its last attempt, as the run saw it fail, or as its record has it where that is of a newer one."""
        started = self.record.get("started", 0.0)
        if self.failures and started <= self.failures[-1].ended:
            return self.failures[-1]
        return Failure(started + self.age, "", self.log, self.record.get("slurm_job"))

    @property
    def has_failed(self) -> bool:
        """True if its last attempt has failed."""
        return self.last in self.failures or self.state in ("failed", "stopped", "gone")

    @property
    def attempts(self) -> int:
        """Number of its attempts that failed."""
        return len(self.failures) + (self.last not in self.failures)


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
    failures = [vars(each) for each in (*read_failures(record), failure)]
    write_text(failures_path(record), json.dumps(failures))


def read_jobs(active: Collection[str] = ()) -> list[Job]:
    """The jobs of the current folder that have begun; `active` has the records of those under way.

    A job that has vanished has the state "gone". A record of an attempt before the last, which did not reach
    its stage, is left out.
    """
    jobs = []
    for path in sorted({path.with_suffix(".json") for path in FOLDER.glob("*/*.*")}):
        record, failures = read_record(path), read_failures(path)
        if not record.keys() >= NEEDED:
            record = {}
        if record.get("state") == "running" and not is_running(record):
            record["state"] = "gone"
        log = record.get("log") or failures and failures[-1].log or path.stem
        job = Job(path.parent.name, log, record, failures, under_way=str(path) in active)
        numbers = {job.last.slurm_job, record.get("slurm_job")} - {None}
        if REFUSED.search(job.last.message) or len(numbers) > 1:
            job.record = {}
        if record or failures:
            jobs.append(job)
    return jobs
