"""Diagnosis of a failed job from its record, its logs and SLURM: the cause, and what to change.

The causes are rows of resources/causes.tsv: the first one whose pattern is found in its source counts.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from aftershock.jobs.job import Job
from aftershock.jobs.sizes import duration, megabytes
from aftershock.project import PROJECT, command, installation
from aftershock.text_files import read_cells

AGAIN = f"run again: `{command('resume')}`"
LONGER, LONGEST = 2.0, 20.0  # times the run time that a job is given next, at least and at most
DEFAULT_MB, DEFAULT_MINUTES = 2000, 60  # requests assumed for a job that states none

REFUSED = re.compile(
    r"SLURM sbatch failed\. The error message was '(.+?)'\.(?: sbatch call:|$)|"
    r"Job submission failed with exception: (.+?)\.?(?:For further error details|$)"
)
LIMIT = re.compile(r"exceeded memory limit \((\d+) > (\d+)\)")
NODE = re.compile(r"Node failure on (\S+)")
SIGNAL = re.compile(r"died with <Signals\.(SIG\w+): \d+>")
EXIT = re.compile(r"returned non-zero exit status (\d+)")
ERROR = re.compile(
    r"^[ \t]*(?:\S+: )?(?:\w+\.)*(\w*(?:[Ee]rror|Exception): .*?)(?: \(traceback in \S+\))?$", re.M
)
NOISE = re.compile(
    r"At least one job did not complete|Exited with exit code|CalledProcessError|Job step aborted"
)
WANTED = re.compile(r"allocate ([\d.]+) (bytes|KiB|MiB|GiB|TiB)")
UNITS = {"bytes": 2**-20, "KiB": 2**-10, "MiB": 1, "GiB": 2**10, "TiB": 2**20}  # in MB of 2**20 bytes


@dataclass(frozen=True)
class Cause:
    """Cause of a failure, and its remedy."""

    kind: str
    what: str
    remedy: str


def cause_of(job: Job) -> Cause:
    """The first cause in the sheet that fits the last attempt at a job."""
    for source, text in _sources(job):
        for of, kind, pattern, what, remedy in _sheet() if text else ():
            if of == source and re.search(pattern, text):
                values = _values(job, text)
                return Cause(kind, what.format(**values), remedy.format(**values))
    ended = EXIT.search(job.slurm_log) or EXIT.search(job.last.message)
    silent = f"its script ended with exit status {ended[1]}, and " if ended else ""
    return Cause("unknown", f"{silent}no log says why", f"see {job.log}; {AGAIN}")


@cache
def _sheet() -> list[list[str]]:
    """Source, kind, pattern, what happened and the remedy of each cause; braces have keys of `_values`."""
    return read_cells((PROJECT / "resources" / "causes.tsv").read_bytes(), "causes.tsv")[1:]


def _sources(job: Job) -> list[tuple[str, str]]:
    """The texts in which causes are looked for, in this order, each with its source as rows name it."""
    refused = REFUSED.search(job.last.message)
    refusal = (refused[1] or refused[2]).replace("sbatch: error: ", "") if refused else ""
    return [
        ("refusal", refusal.split("Batch job submission failed: ")[-1].strip()),
        ("error", _own_error(job)),
        ("end", f"{job.slurm_log}\n{job.last.message}\n<{job.state}>"),
        ("error", last_error(job.slurm_log) or last_error(job.last.message)),
    ]


def last_error(text: str) -> str:
    """Kind and text of the last error in a log; "" without one."""
    return next((error for error in reversed(ERROR.findall(text)) if not NOISE.search(error)), "")


def _own_error(job: Job) -> str:
    """Kind and text of the error in a job's record; from its log where the record could not be written."""
    error = job.record.get("error") or {}
    if job.state == "failed" and error.get("kind"):
        return f"{error['kind']}: {' '.join(error.get('text', '').split())}"
    lines = job.log_end.strip().splitlines()[-1:] if job.state in ("gone", "running") else []
    return last_error("\n".join(lines))


def _values(job: Job, text: str) -> dict[str, Any]:
    """Values for the braces of the sheet; `text` is what the cause was found in."""
    record, asked = job.record, job.record.get("asked", {})
    place, minutes = (record.get("error") or {}).get("place"), asked.get("runtime")
    signal, node = SIGNAL.search(text), NODE.search(text)
    progress = f" with {job.progress} done" if record.get("done") and job.progress else ""
    longer = 1.5 * record["total"] / record["done"] if progress else LONGER
    longer = (minutes or DEFAULT_MINUTES) * max(min(longer, LONGEST), LONGER)
    used, allowed, needed_mb = _memory(job, text)
    give = f"`set-resources: {job.rule}: {{}}: {{:.0f}}` in {job.profile}".format
    fewer = f"fewer jobs at once (`{command('resume', '--cores 1')}`), or a machine with more memory"
    return {
        "all": text,
        "error": text.partition(": ")[0],
        "text": text.partition(": ")[2],
        "rule": job.rule,
        "log": job.log,
        "logs": job.log + (f" and SLURM's log of job {job.last.slurm_job}" if job.slurm_log else ""),
        "profile": job.profile,
        "again": AGAIN,
        "install": installation("workflow"),
        "host": record.get("host", "the machine of the job"),
        "place": f" at {place}" if place else "",
        "age": f" after {duration(job.age)}{progress}" if record else "",
        "progress": progress,
        "signal": f" by {signal[1]}" if signal else "",
        "memory": megabytes(used) + " used" + (f", {megabytes(allowed)} allowed" if allowed else ""),
        "gpu_memory": megabytes(record.get("gpu_peak_bytes")),
        "tried": f" at most in {job.attempts} attempts" if job.attempts > 1 else "",
        "more_memory": give("mem_mb", needed_mb) if job.last.slurm_job else fewer,
        "minutes": f" of {minutes} min" if minutes else "",
        "more_time": give("runtime", longer),
        "node": node[1] if node else record.get("host", ""),
    }


def _memory(job: Job, text: str) -> tuple[int | None, int, float]:
    """Most bytes that an attempt used and was allowed, and the MB to give the next one."""
    limits = [(int(used), int(limit)) for used, limit in LIMIT.findall(job.slurm_logs)]
    used = max([job.record.get("peak_bytes") or 0, *(used for used, _ in limits)])
    asked_mb = job.record.get("asked", {}).get("mem_mb") or 0
    allowed = max((limit for _, limit in limits), default=asked_mb * 2**20)
    wanted = WANTED.search(text)
    needed = 1.2 * (used / 2**20 + float(wanted[1]) * UNITS[wanted[2]]) if wanted else 1.5 * used / 2**20
    needed = max(needed, 2 * (allowed / 2**20 or DEFAULT_MB))
    return used or None, allowed if job.last.slurm_job else 0, -(-needed // 500) * 500
