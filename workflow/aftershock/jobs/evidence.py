"""Evidence about a failed job, and the form of a diagnosis."""

import re
from dataclasses import dataclass, field
from typing import Any

from aftershock.jobs.sizes import duration, plural
from aftershock.jobs.slurm_jobs import UNKNOWN, SlurmJob
from aftershock.project import command

STATUS = re.compile(r"SLURM status is: '(\w+)'")
AGAIN = f"run again: `{command('resume')}`"


@dataclass(frozen=True)
class Cause:
    """Cause of a failure, and its remedy."""

    kind: str
    what: str
    remedy: str


@dataclass
class Evidence:
    """Evidence about a failed job; its last attempt counts."""

    rule: str
    log: str
    profile: str = "the profile's config.yaml"
    attempts: int = 1
    record: dict[str, Any] = field(default_factory=dict)
    """Record of the last attempt; empty when it did not reach a stage of ours."""
    message: str = ""
    """Snakemake's message about it."""
    slurm_job: str | None = None
    slurm_logs: list[str] = field(default_factory=list)
    """The ends of SLURM's logs, one an attempt."""
    slurm: SlurmJob = UNKNOWN
    """Return SLURM's record of the job."""
    run_died: bool = False
    """True if the run that it belonged to was killed."""
    log_end: str = ""
    """The end of the rule's log."""

    @property
    def slurm_log(self) -> str:
        return self.slurm_logs[-1] if self.slurm_logs else ""

    @property
    def state(self) -> str:
        """The job's state according to SLURM or Snakemake; "" outside SLURM, and where it says nothing."""
        found = STATUS.search(self.message)
        telling = self.slurm.state not in ("FAILED", "COMPLETED", "RUNNING", "")
        return self.slurm.state if telling else found[1] if found else ""

    @property
    def progress(self) -> str:
        """Progress such as "7 of 32 cases done"; "" where the job does not count."""
        done, total = self.record.get("done"), self.record.get("total")
        return f"{done:g} of {total:g} {plural(self.record['unit'])} done" if done and total else ""

    @property
    def age(self) -> str:
        """Duration and progress of its last attempt."""
        if not self.record:
            return ""
        return f" after {duration(self.record['seconds'])}" + (self.progress and f" with {self.progress}")

    def asked(self, name: str) -> int | None:
        """The amount of a resource that the last attempt requested; None where unknown."""
        return self.record.get("asked", {}).get(name)

    def more(self, name: str, value: int) -> str:
        """Instruction to give the rule more of a resource."""
        return f"`set-resources: {self.rule}: {name}: {value}` in {self.profile}"

    def more_memory(self, mb: float) -> str:
        """Instruction to give the job `mb` MB; without SLURM jobs share the memory without limits."""
        if self.slurm_job:
            return self.more("mem_mb", rounded(mb))
        return f"fewer jobs at once (`{command('resume', '--cores 1')}`), or a machine with more memory"


def rounded(mb: float) -> int:
    """MB rounded up to the next 500."""
    return int(-(-mb // 500) * 500)
