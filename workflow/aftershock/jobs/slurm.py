"""Interface to SLURM: its programs, each with a time limit, and parsers of their output.

Nothing else starts a program of SLURM. One that is missing, hangs or fails is a SlurmError that says which
and what to do.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from aftershock.jobs.folder import user_name

SECONDS = 8.0  # time limit of SLURM's controller
SHORT_SECONDS = 5.0  # that of accounting, which counts as off without an answer
PROGRAMS = ("sinfo", "squeue", "sbatch", "scancel")
GPU = re.compile(r"gpu:(?:([^:,(]+):)?\d+")
ENDED = re.compile("Invalid job id|already completing or completed")
WHEN_IT_ANSWERS = "Try again when `sinfo` answers, or ask who runs the cluster"
NOT_HERE = "Run this on a machine of the cluster, such as its login node, or without the SLURM profile"


class SlurmError(RuntimeError):
    """A program of SLURM is missing, gave no answer in time, or failed."""


class Partition(NamedTuple):
    """A partition as the controller knows it, with the types of its GPUs: "" is that of untyped ones."""

    default: bool
    up: bool
    gpus: set[str]


class SlurmJob(NamedTuple):
    """A job of SLURM's queue."""

    id: str
    state: str

    @property
    def waiting(self) -> bool:
        return self.state == "PENDING"


def is_here() -> bool:
    """True if the programs that a run needs are on this machine."""
    return all(map(shutil.which, PROGRAMS))


def ask(*command: str, seconds: float = SECONDS) -> str:
    """The output of a program of SLURM. Raises SlurmError."""
    program, nothing = command[0], subprocess.DEVNULL
    try:
        ended = subprocess.run(
            command, stdin=nothing, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except OSError as error:
        raise SlurmError(f"{program}, a program of SLURM, cannot be run here ({error}). {NOT_HERE}") from None
    except subprocess.TimeoutExpired:
        silent = f"SLURM does not answer: {program} said nothing for {seconds:.0f} s"
        raise SlurmError(f"{silent}. {WHEN_IT_ANSWERS}") from None
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise SlurmError(f"{program} failed: {said[-1].strip().rstrip('.')}. {WHEN_IT_ANSWERS}")
    return ended.stdout


def _rows(text: str, columns: int) -> list[list[str]]:
    """The cells of lines with so many columns between "|"; SLURM puts messages between them."""
    rows = (line.split("|") for line in text.splitlines())
    return [[cell.strip() for cell in row[:columns]] for row in rows if columns <= len(row) <= columns + 1]


# --- the cluster ------------------------------------------------------------------------------------------


def settings() -> dict[str, str]:
    """The controller's settings by name. Raises SlurmError when it does not answer."""
    pairs = (line.split("=", 1) for line in ask("scontrol", "show", "config").splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def partitions() -> dict[str, Partition]:
    """All partitions by name, hidden ones too. Raises SlurmError."""
    found: dict[str, Partition] = {}
    for named, state, gres in _rows(ask("sinfo", "--all", "--exact", "--noheader", "--format=%P|%a|%G"), 3):
        name, gpus = named.rstrip("*"), set(GPU.findall(gres))
        gpus |= found[name].gpus if name in found else set()
        found[name] = Partition(named.endswith("*"), state == "up", gpus)
    return found


def has_accounting(config: dict[str, str]) -> bool:
    """True if ended jobs can be queried: accounting is on, keeps jobs, and answers in time."""
    kind = config.get("AccountingStorageType", "").removeprefix("accounting_storage/")
    if kind in ("", "none", "(null)") or "nojobs" in config.get("AccountingStorageEnforce", ""):
        return False
    try:
        ask("sacct", "-X", "--noheader", "--starttime=now", seconds=SHORT_SECONDS)
    except SlurmError:
        return False
    return True


def accounts() -> set[str] | None:
    """Accounts that this user's jobs may name; None when accounting knows no user, or does not answer."""
    query = ("--noheader", "--parsable2", "list", "associations", "format=User,Account")
    try:
        pairs = [pair for pair in _rows(ask("sacctmgr", *query, seconds=SHORT_SECONDS), 2) if pair[0]]
    except SlurmError:
        return None
    return {account for user, account in pairs if user == user_name()} if pairs else None


# --- jobs -------------------------------------------------------------------------------------------------


def queued(prefix: str) -> list[SlurmJob]:
    """This user's jobs that have not ended and whose names start with `prefix` and "_". Raises SlurmError."""
    rows = _rows(ask("squeue", "--me", "--array", "--noheader", "--format=%i|%j|%T"), 3)
    return [SlurmJob(id, state) for id, name, state in rows if name.startswith(f"{prefix}_")]


def cancel(ids: Sequence[str], *options: str) -> None:
    """Cancel jobs; those that ended meanwhile are no error. Raises SlurmError."""
    try:
        if ids:
            ask("scancel", *options, *ids)
    except SlurmError as error:
        if not ENDED.search(str(error)):
            raise
