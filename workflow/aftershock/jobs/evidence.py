"""What is known of a failed job, and the shape of an answer to why it failed."""

import re
from dataclasses import dataclass, field
from typing import Any

from aftershock.jobs.sizes import duration, plural
from aftershock.project import command

STATUS = re.compile(r"SLURM status is: '(\w+)'")
AGAIN = f"run again: `{command('resume')}`"


@dataclass(frozen=True)
class Cause:
    """What happened, and what to change."""

    kind: str
    what: str
    remedy: str


@dataclass
class Evidence:
    """All that is known of a failed job; its last attempt counts."""

    rule: str
    log: str
    profile: str = "the profile's config.yaml"
    attempts: int = 1
    record: dict[str, Any] = field(default_factory=dict)
    """Of the last attempt; empty when that came to no stage of ours."""
    message: str = ""
    """What Snakemake says of it."""
    slurm_job: str | None = None
    slurm_logs: list[str] = field(default_factory=list)
    """The ends of SLURM's logs, one an attempt."""
    slurm_state: str = ""
    slurm_peak: int | None = None
    """Bytes, which only accounting knows."""
    node: str = ""
    restarts: int = 0
    run_died: bool = False
    """Whether the run that it belonged to was killed."""
    log_end: str = ""
    """The end of the rule's log."""

    @property
    def slurm_log(self) -> str:
        return self.slurm_logs[-1] if self.slurm_logs else ""

    @property
    def state(self) -> str:
        """The state that SLURM, or Snakemake in its name, gives; "" outside SLURM."""
        found = STATUS.search(self.message)
        return self.slurm_state or (found[1] if found else "")

    @property
    def progress(self) -> str:
        """How far it came, such as "7 of 32 cases done"; "" where it does not count."""
        done, total = self.record.get("done"), self.record.get("total")
        return f"{done:g} of {total:g} {plural(self.record['unit'])} done" if done and total else ""

    @property
    def age(self) -> str:
        """How long its last attempt took, and how far it came."""
        if not self.record:
            return ""
        return f" after {duration(self.record['seconds'])}" + (self.progress and f" with {self.progress}")

    def asked(self, name: str) -> int | None:
        """What the last attempt asked for."""
        return self.record.get("asked", {}).get(name)

    def more(self, name: str, value: int) -> str:
        """How to give the rule more of a resource."""
        return f"`set-resources: {self.rule}: {name}: {value}` in {self.profile}"

    def more_memory(self, mb: float) -> str:
        """How to have `mb` MB for it. Without SLURM, nobody holds jobs to what they ask for: they share."""
        if self.slurm_job:
            return self.more("mem_mb", rounded(mb))
        return f"fewer jobs at once (`{command('resume', '--cores 1')}`), or a machine with more memory"


def rounded(mb: float) -> int:
    """Up to the next 500."""
    return int(-(-mb // 500) * 500)
