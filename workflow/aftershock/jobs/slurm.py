"""Interface to SLURM: its programs, each with a time limit, and parsers of their output.

Nothing else starts a program of SLURM. One that is missing, hangs or fails is a SlurmError that says which
and what to do.
"""

import math
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aftershock.jobs.places import user_name

SECONDS = 8.0
"""Time limit of SLURM's controller."""
ACCOUNTING_SECONDS = 5.0
"""Time limit of its accounting; without an answer it counts as off."""
IDS_AT_ONCE = 500  # in one command line
RUNNING = ("RUNNING", "SUSPENDED", "STOPPED")
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
GPU = re.compile(r"gpu:(?:([^:,(]+):)?(\d+)")
WHEN_IT_ANSWERS = "Try again when `sinfo` answers, or ask who runs the cluster"
NOT_HERE = "Run this on a machine of the cluster, such as its login node, or without the SLURM profile"


class SlurmError(RuntimeError):
    """A program of SLURM is missing, gave no answer in time, or failed."""


@dataclass(frozen=True)
class Partition:
    """A partition as the controller knows it."""

    name: str
    default: bool
    up: bool
    minutes: float
    """Longest run time of a job; inf without a limit."""
    mem_mb: int
    """Memory of its largest node."""
    gpus: dict[str, int] = field(default_factory=dict)
    """GPUs of one node by type, most of any node; the type of untyped ones is ""."""


@dataclass(frozen=True)
class SlurmJob:
    """A job's state according to SLURM."""

    id: str
    state: str
    reason: str = ""
    restarts: int = 0
    gpus: int = 0
    node: str = ""
    rule: str = ""
    peak_bytes: int | None = None
    """The largest memory of one of its steps, which only accounting has."""

    @property
    def running(self) -> bool:
        return self.state in RUNNING

    @property
    def waiting(self) -> bool:
        return self.state in WAITING


def is_here() -> bool:
    """True if the programs that a run needs are on this machine."""
    return all(shutil.which(program) for program in ("sinfo", "squeue", "sbatch", "scancel"))


def ask(program: str, *arguments: str, seconds: float = SECONDS) -> str:
    """The output of a program of SLURM. Raises SlurmError."""
    ended = _run(program, *arguments, seconds=seconds)
    if ended.returncode:
        said = _last_line(ended.stderr) or f"exit code {ended.returncode}"
        raise SlurmError(f"{program} failed: {said.rstrip('.')}. {WHEN_IT_ANSWERS}")
    return ended.stdout


def settings() -> dict[str, str]:
    """The controller's settings by name. Raises SlurmError when it does not answer."""
    lines = ask("scontrol", "show", "config").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def min_job_age(config: dict[str, str]) -> int | None:
    """Seconds that the controller remembers an ended job; None when its settings do not say."""
    found = re.match(r"\d+", config.get("MinJobAge", ""))
    return int(found[0]) if found else None


def partitions() -> dict[str, Partition]:
    """All partitions by name, hidden ones too. Raises SlurmError."""
    found: dict[str, Partition] = {}
    for line in ask("sinfo", "--all", "--exact", "--noheader", "--format=%P|%a|%l|%m|%G").splitlines():
        name, available, limit, memory, gres = (part.strip() for part in line.split("|"))
        before = found.get(name.rstrip("*"))
        gpus = dict(before.gpus) if before else {}
        for kind, count in GPU.findall(gres):
            gpus[kind] = max(gpus.get(kind, 0), int(count))
        found[name.rstrip("*")] = Partition(
            name=name.rstrip("*"),
            default=name.endswith("*"),
            up=available == "up",
            minutes=_minutes(limit),
            mem_mb=max(int(memory.rstrip("+") or 0), before.mem_mb if before else 0),
            gpus=gpus,
        )
    return found


def queued(prefix: str) -> list[SlurmJob]:
    """This user's jobs that have not ended and whose names start with `prefix` and "_". Raises SlurmError."""
    lines = ask("squeue", "--me", "--array", "--noheader", "--format=%i|%j|%T|%r").splitlines()
    rows = [[part.strip() for part in line.split("|", 3)] for line in lines if line.strip()]
    return [SlurmJob(row[0], row[2], row[3]) for row in rows if row[1].startswith(f"{prefix}_")]


def cancel(ids: Sequence[str], pending_only: bool = False) -> None:
    """Cancel jobs; those that ended meanwhile are no error. Raises SlurmError."""
    state = ["--state=PENDING"] if pending_only else []
    for start in range(0, len(ids), IDS_AT_ONCE):
        ended = _run("scancel", *state, *ids[start : start + IDS_AT_ONCE])
        said = [line for line in ended.stderr.splitlines() if line.strip() and not _has_ended(line)]
        if ended.returncode and said:
            raise SlurmError(f"scancel failed: {said[-1].strip()}")


def has_accounting(config: dict[str, str]) -> bool:
    """True if ended jobs can be queried: accounting is on, keeps jobs, and answers in time."""
    kind = config.get("AccountingStorageType", "").removeprefix("accounting_storage/")
    if kind in ("", "none", "(null)") or "nojobs" in config.get("AccountingStorageEnforce", ""):
        return False
    try:
        ask("sacct", "-X", "--noheader", "--starttime=now", seconds=ACCOUNTING_SECONDS)
    except SlurmError:
        return False
    return True


def accounts() -> set[str] | None:
    """Accounts that this user's jobs may name; None when accounting knows no user, or does not answer."""
    try:
        lines = _accounting("list", "associations", "format=User,Account")
    except SlurmError:
        return None
    pairs = [tuple(line.split("|")) for line in lines if line.count("|") == 1]
    users = {user for user, _ in pairs if user}
    return {account for user, account in pairs if user == user_name()} if users else None


def submit_limit() -> int | None:
    """Number of jobs that this user may submit, by account and quality of service; None without limit."""
    user = ("list", "associations", f"user={user_name()}", "format=MaxSubmitJobs,QOS")
    qos = ("list", "qos", "format=Name,MaxSubmitJobsPerUser")
    try:
        own = [line.split("|") for line in _accounting(*user) if "|" in line]
        limits = dict(line.split("|", 1) for line in _accounting(*qos) if "|" in line)
    except SlurmError:
        return None
    found = [limit for limit, _ in own]
    found += [limits.get(name, "") for _, names in own for name in names.split(",") if "," not in names]
    return min((int(limit) for limit in found if limit.isdigit()), default=None)


def _accounting(*query: str) -> list[str]:
    """Output of sacctmgr, a row a line, columns between "|"."""
    return ask("sacctmgr", "--noheader", "--parsable2", *query, seconds=ACCOUNTING_SECONDS).splitlines()


def refusal(options: Iterable[str]) -> str | None:
    """The reason why SLURM would refuse a small job with these options of sbatch; None if it would not."""
    small = ("--ntasks=1", "--cpus-per-task=1", "--time=1", "--wrap=true")
    ended = _run("sbatch", "--test-only", *options, *small)
    return (_last_line(ended.stderr) or "no reason given") if ended.returncode else None


def _run(program: str, *arguments: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        raise SlurmError(f"{program}, a program of SLURM, cannot be run here ({error}). {NOT_HERE}") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"SLURM does not answer: {program} said nothing for {seconds:.0f} s. {WHEN_IT_ANSWERS}"
        ) from None


def _minutes(limit: str) -> float:
    """[days-][[hours:]minutes:]seconds of SLURM in minutes; inf where there is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", limit)
    if not found:
        return math.inf
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + minutes + seconds / 60


def _has_ended(line: str) -> bool:
    return "Invalid job id" in line or "already completing or completed" in line


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
