"""A job as `aftershock status` and `aftershock why` see it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aftershock.datasets.table import DATASETS, find_dataset
from aftershock.jobs.run import Failure
from aftershock.jobs.sizes import plural
from aftershock.jobs.slurm import SlurmJob


@dataclass
class Job:
    """A job by its own record, by its failed attempts in the records of runs, by logs and by SLURM."""

    rule: str
    log: str
    record: dict[str, Any] = field(default_factory=dict)
    """Empty where it has none."""
    failures: list[Failure] = field(default_factory=list)
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
    def is_newer(self) -> bool:
        """True if its record is of an attempt after the last failure in the records of runs."""
        return bool(self.record) and (not self.failures or self.record["started"] > self.failures[-1].ended)

    @property
    def last(self) -> Failure | None:
        """Its last failure; None where its record is of an attempt after it."""
        return None if self.is_newer or not self.failures else self.failures[-1]

    @property
    def message(self) -> str:
        """Snakemake's messages about its last attempt."""
        return self.last.message if self.last else ""

    @property
    def attempts(self) -> int:
        """Number of its attempts that failed."""
        return len(self.failures) + (self.is_newer or not self.failures)

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
        of_record = self.record["started"] + self.age if self.record else 0.0
        return max(of_record, self.failures[-1].ended if self.failures else 0.0)

    def note(self, record: dict[str, Any]) -> None:
        """Note its record, unless that is of an attempt before the last, which did not reach its stage."""
        self.record = record
        refused = "ubmission failed" in self.message or "sbatch failed" in self.message
        number, of_record = self.last and self.last.slurm_job, record.get("slurm_job")
        if refused or (number and of_record and number != of_record):
            self.record = {}
