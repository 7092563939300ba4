"""Checks, before anything is submitted, for problems that would stop a run on a cluster.

Every check raises PreflightError, or slurm.SlurmError, with the thing, what was found and what to do.
"""

import difflib
import importlib.util
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aftershock.jobs import slurm
from aftershock.jobs.arguments import Wanted
from aftershock.jobs.folder import PreflightError
from aftershock.jobs.places import user_name
from aftershock.project import PROJECT, command, installation
from aftershock.text_files import read_yaml

PLUGIN = "snakemake_executor_plugin_slurm"
LONGEST_PAUSE = 180
"""Longest interval in seconds between two queries of the executor plugin."""
SPECIAL = re.compile(r"[^\w@%+=:,./~^-]")
"""Characters that a shell takes for more than themselves."""
DRY_RUN = re.compile(r"--dry-?run|-[a-zA-Z]*n[a-zA-Z]*")  # -np too
REFUSED = re.compile(r"invalid (account|qos|partition)|violates accounting|QOS", re.IGNORECASE)
Limits = Mapping[str, Mapping[str, Any]]
"""Limits by partition, as the executor plugin's file has them."""


def check_installed(arguments: Sequence[str]) -> None:
    """Raise PreflightError where this machine cannot submit jobs, SlurmError where the controller is silent.

    A dry run needs no cluster.
    """
    for path in (os.getcwd(), str(PROJECT), sys.executable):
        if found := sorted(set(SPECIAL.findall(path))):
            named = " ".join(map(repr, found))
            raise PreflightError(
                f"no job can be submitted for {path}: Snakemake's slurm executor puts this path into shell "
                f"commands as it is, where {named} means something else. Rename the folder"
            )
    if importlib.util.find_spec(PLUGIN) is None:
        raise PreflightError(
            f"Snakemake's slurm executor is not installed. Install it: {installation('slurm')}"
        )
    if any(DRY_RUN.fullmatch(argument) for argument in arguments):
        return
    if not slurm.is_here():
        raise PreflightError(
            f"no SLURM on {socket.gethostname()}: sinfo or sbatch is missing. {slurm.NOT_HERE}"
        )
    slurm.settings()


def check_cluster(wanted: Wanted) -> tuple[list[str], list[str]]:
    """Compare a run's requests with the cluster's resources.

    Two lists come back: arguments for Snakemake (what tells what became of jobs, and how many to submit where
    that is limited), and warnings. Raises PreflightError with all that does not fit, a line each.
    """
    config, known, limits = slurm.settings(), slurm.partitions(), _read_partitions(wanted.partition_file)
    accounting = slurm.has_accounting(config)
    problems = [*_wrong_partitions(wanted, limits, known), *_wrong_gpus(wanted.gpus, limits, known)]
    warnings = list(_beyond(limits, known))
    if accounting:
        problems += _wrong_accounts(wanted.accounts)
    else:
        _check_memory(config, wanted.first_look, problems, warnings)
    problems = problems or list(_refusals(wanted, {**dict.fromkeys(wanted.partitions, {}), **limits}))
    if problems:
        raise PreflightError("\n".join(problems))
    chosen = [f"--slurm-status-command={'sacct' if accounting else 'squeue'}"]
    limit = slurm.submit_limit() if accounting else None
    if limit is not None and limit < wanted.jobs:
        warnings.append(
            f"SLURM takes at most {limit} jobs of yours at a time, so no more are submitted (--jobs)"
        )
        chosen.append(f"--jobs={limit}")
    return chosen, warnings


def _read_partitions(path: Path | None) -> Limits:
    """Limits by partition in the plugin's file."""
    if path is None:
        return {}
    try:
        return {str(name): dict(limits or {}) for name, limits in read_yaml(path)["partitions"].items()}
    except (OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise PreflightError(
            f"{path} is no file of partitions ({error}). It needs a key `partitions` with one entry for each"
        ) from None


def _wrong_partitions(wanted: Wanted, limits: Limits, known: Mapping[str, slurm.Partition]) -> Iterator[str]:
    for name in dict.fromkeys((*limits, *wanted.partitions)):
        where = wanted.partition_file if name in limits else "resource slurm_partition"
        if name not in known:
            yield f"partition {name!r} ({where}) does not exist.{_known(name, known)}"
        elif not known[name].up:
            yield f"partition {name!r} ({where}) takes no jobs now: it is down. Wait, or take it out"
    if not limits and not wanted.partitions and not any(p.default for p in known.values()):
        yield f"this cluster has no default partition. Name one in partitions.yaml.{_known('', known)}"


def _beyond(limits: Limits, known: Mapping[str, slurm.Partition]) -> Iterator[str]:
    """Yield limits in a file of partitions that exceed SLURM's."""
    for name, promised in limits.items():
        if found := known.get(name):
            has = {
                "max_runtime": found.minutes,
                "max_mem_mb": found.mem_mb,
                "max_gpu": sum(found.gpus.values()),
            }
            for key in has.keys() & promised.keys():
                if isinstance(promised[key], int | float) and promised[key] > has[key]:
                    yield (
                        f"partitions.yaml: {key} of {name!r} is {promised[key]:g}, but SLURM has "
                        f"{has[key]:g}: a job that asks for more is refused, or waits for ever"
                    )


def _wrong_gpus(wanted: Iterable[str], limits: Limits, known: Mapping[str, slurm.Partition]) -> Iterator[str]:
    """Yield the requested types of GPU that no node has."""
    everywhere = {kind for partition in known.values() for kind in partition.gpus}
    asked = [(kind, "config gpus", everywhere) for kind in wanted]
    for name, promised in limits.items():
        there = set(known[name].gpus) if name in known else set()
        asked += [(kind, f"partition {name!r}", there) for kind in promised.get("available_gpu_models") or ()]
    for kind, where, kinds in asked:
        if kind not in kinds:
            types = _known(kind, kinds - {""}, "Types there", "none; leave the type out")
            yield f"{where}: no node has a GPU of type {kind!r}.{types}"


def _wrong_accounts(wanted: Iterable[str]) -> Iterator[str]:
    found = slurm.accounts() if wanted else None
    for account in wanted if found is not None else ():
        if account.lower() not in {name.lower() for name in found or ()}:
            others = _known(account, found or (), none="none; ask who runs the cluster for one")
            yield f"account {account!r} is not known for {user_name()}.{others}"


def _check_memory(
    config: Mapping[str, str], first_look: int, problems: list[str], warnings: list[str]
) -> None:
    """Add what follows where SLURM has no accounting and forgets ended jobs early.

    Then the plugin polls sacct for ever although it was set to poll squeue; see `get_min_job_age` there.
    """
    found = re.match(r"\d+", config.get("MinJobAge", ""))
    age = int(found[0]) if found else LONGEST_PAUSE
    forgets = f"SLURM has no accounting here and forgets ended jobs after {age} s (MinJobAge)"
    if age < 3 * first_look and shutil.which("sacct"):
        problems.append(
            f"{forgets}: the run would never hear of them. Set slurm-init-seconds-before-status-checks in "
            f"the profile to at most {max(1, age // 3)}"
        )
    elif age < LONGEST_PAUSE:
        again = command("resume")
        warnings.append(f"{forgets}: a run that waits for one of them should be ended and taken up: {again}")


def _refusals(wanted: Wanted, limits: Limits) -> Iterator[str]:
    """Yield SLURM's refusals of a small job in each partition, where they concern permissions."""
    common = [f"--account={name}" for name in wanted.accounts[:1]] + [
        f"--qos={name}" for name in wanted.qos[:1]
    ]
    refused: dict[str, list[str]] = {}
    for name, limit in limits.items():
        gpu = ["--gpus=1"] if limit.get("max_gpu") else []
        said = slurm.refusal([f"--partition={name}", *gpu, *common])
        if said and REFUSED.search(said):
            refused.setdefault(said, []).append(name)
    for said, names in refused.items():
        yield (
            f"SLURM refuses jobs in {', '.join(sorted(names))}: {said}. Check slurm_account and qos in the "
            f"profile; with too many jobs submitted already, wait for some to end, then: {command('resume')}"
        )


def _known(name: str, known: Iterable[str], label: str = "Known", none: str = "") -> str:
    """Return what a wrong name may have been meant for, and all that are known."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return f"{meant} {label}: {', '.join(sorted(known)) or none}"
