"""Interface to SLURM: its programs, each with a time limit, and what a run asks of the cluster.

Nothing else starts a program of SLURM. One that is missing, hangs or fails is a SlurmError that says which
and what to do.
"""

import argparse
import difflib
import os
import re
import shutil
import socket
import subprocess
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from aftershock.jobs.folder import PreflightError, user_name

SECONDS = 8.0  # time limit of SLURM's controller
SHORT_SECONDS = 5.0  # that of accounting, which counts as off without an answer
PROGRAMS = ("sinfo", "squeue", "sbatch", "scancel")
GPU = re.compile(r"gpu:(?:([^:,(]+):)?\d+")
NAMES = re.compile(r"[\w.+-]+(?:[,\s]+[\w.+-]+)*")  # stated as they are, and not computed by jobs
WHEN_IT_ANSWERS = "Try again when `sinfo` answers, or ask who runs the cluster"
NOT_HERE = "Run this on a machine of the cluster, such as its login node, or without the SLURM profile"


class SlurmError(RuntimeError):
    """A program of SLURM is missing, gave no answer in time, or failed."""


def fault() -> SlurmError | None:
    """Return why this machine cannot submit jobs; None where it can."""
    if not all(map(shutil.which, PROGRAMS)):
        return SlurmError(f"no SLURM on {socket.gethostname()}: sinfo or sbatch is missing. {NOT_HERE}")
    try:
        settings()
    except SlurmError as error:
        return error
    return None


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


def partitions() -> dict[str, set[str]]:
    """The types of the GPUs of each partition, hidden ones too. Raises SlurmError."""
    found = defaultdict[str, set[str]](set)
    for name, gres in _rows(ask("sinfo", "--all", "--exact", "--noheader", "--format=%R|%G"), 2):
        found[name] |= set(GPU.findall(gres)) - {""}
    return found


def has_accounting() -> bool:
    """True if ended jobs can be queried: accounting is on, keeps jobs, and answers in time."""
    config = settings()
    kind = config.get("AccountingStorageType", "").removeprefix("accounting_storage/")
    if kind in ("", "none", "(null)") or "nojobs" in config.get("AccountingStorageEnforce", ""):
        return False
    try:
        ask("sacct", "-X", "--noheader", "--starttime=now", seconds=SHORT_SECONDS)
    except SlurmError:
        return False
    return True


def queued(prefix: str) -> dict[str, str]:
    """States of this user's jobs that have not ended and whose names start with `prefix` and "_", by id."""
    rows = _rows(ask("squeue", "--me", "--array", "--noheader", "--format=%i|%j|%T"), 3)
    return {number: state for number, name, state in rows if name.startswith(f"{prefix}_")}


# --- before a run -----------------------------------------------------------------------------------------


def check_cluster(options: argparse.Namespace, gpus: Iterable[str]) -> str:
    """Compare the requests in Snakemake's parsed arguments, and types of GPU, with the cluster.

    The program of SLURM that tells what became of jobs comes back. Raises PreflightError with all that does
    not fit, a line each.
    """
    accounting = has_accounting()
    wrong = [*_wrong_partitions(options, gpus), *(_wrong_accounts(options) if accounting else ())]
    if wrong:
        raise PreflightError("\n".join(wrong))
    return "sacct" if accounting else "squeue"


def _wrong_partitions(options: argparse.Namespace, gpus: Iterable[str]) -> Iterator[str]:
    """Yield the requested partitions that do not exist, and types of GPU that no node has."""
    from snakemake.exceptions import WorkflowError
    from snakemake_executor_plugin_slurm.partitions import read_partition_file

    given = options.slurm_partition_config  # a mark of dataclasses where it is missing
    file = given if isinstance(given, os.PathLike) else os.environ.get("SNAKEMAKE_SLURM_PARTITIONS")
    try:
        described = read_partition_file(file) if file else []
    except (WorkflowError, TypeError, KeyError, AttributeError) as error:
        raise PreflightError(f"{file} is no file of partitions: {error}") from None
    known = partitions()
    wanted = {name: "resource slurm_partition" for name in _named("slurm_partition", options)}
    for name, where in (wanted | {each.name: file for each in described}).items():
        if name not in known:
            yield f"partition {name!r} ({where}) does not exist.{_known(name, known)}"
    asked = [(kind, "config gpus", set().union(*known.values())) for kind in gpus]
    for each in described:
        there, kinds = known.get(each.name, set()), each.limits.available_gpu_models
        asked += [(kind, f"partition {each.name!r}", there) for kind in kinds or ()]
    for kind, where, kinds in asked:
        if kind not in kinds:
            yield f"{where}: no node has a GPU of type {kind!r}.{_known(kind, kinds, 'Types there')}"


def _wrong_accounts(options: argparse.Namespace) -> Iterator[str]:
    """Yield the requested accounts that are not of this user; none where accounting knows no user."""
    query = ("--noheader", "--parsable2", "list", "associations", "format=User,Account")
    wanted, user = _named("slurm_account", options), user_name()
    try:
        known = _rows(ask("sacctmgr", *query, seconds=SHORT_SECONDS), 2) if wanted else []
    except SlurmError:
        return
    own = {account for name, account in known if name == user}
    for account in wanted if any(name for name, _ in known) else ():
        if account.lower() not in map(str.lower, own):
            yield f"account {account!r} is not known for {user}.{_known(account, own)}"


def _named(resource: str, options: argparse.Namespace) -> list[str]:
    """The names that a resource has by the options."""
    places = [options.default_resources or {}, *(options.set_resources or {}).values()]
    texts = [str(place[resource].raw).strip("'\"") for place in places if resource in place]
    return [name for text in texts if NAMES.fullmatch(text) for name in re.split(r"[,\s]+", text)]


def _known(name: str, known: Collection[str], label: str = "Known") -> str:
    """Return what a wrong name may have been meant for, and all that are known."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return f"{meant} {label}: {', '.join(sorted(known)) or 'none'}"
