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
from collections.abc import Iterable, Iterator, Sequence
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
    config = slurm.settings()
    known = slurm.partitions()
    limits = _read_partitions(wanted.partition_file)
    accounting = slurm.has_accounting(config)
    problems = [*_wrong_partitions(wanted, limits, known), *_wrong_gpus(wanted.gpus, limits, known)]
    warnings = list(_beyond(limits, known))
    if accounting:
        problems += _wrong_accounts(wanted.accounts)
    else:
        forgotten, wrong = _forgotten_jobs(slurm.min_job_age(config), wanted.first_look)
        warnings += forgotten
        problems += wrong
    if not problems:
        problems += _refusals(wanted, {**dict.fromkeys(wanted.partitions, {}), **limits})
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


def _read_partitions(path: Path | None) -> dict[str, dict[str, Any]]:
    """Limits by partition in the plugin's file."""
    if path is None:
        return {}
    try:
        found = read_yaml(path)["partitions"]
        return {str(name): dict(limits or {}) for name, limits in found.items()}
    except (OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise PreflightError(
            f"{path} is no file of partitions ({error}). It needs a key `partitions` with one entry for each"
        ) from None


def _wrong_partitions(
    wanted: Wanted, limits: dict[str, dict[str, Any]], known: dict[str, slurm.Partition]
) -> Iterator[str]:
    for name in dict.fromkeys((*limits, *wanted.partitions)):
        where = wanted.partition_file if name in limits else "resource slurm_partition"
        if name not in known:
            yield f"partition {name!r} ({where}) does not exist.{_meant(name, known)} Known: {_listed(known)}"
        elif not known[name].up:
            yield f"partition {name!r} ({where}) takes no jobs now: it is down. Wait, or take it out"
    if not limits and not wanted.partitions and not any(p.default for p in known.values()):
        yield f"this cluster has no default partition. Name one in partitions.yaml. Known: {_listed(known)}"


def _beyond(limits: dict[str, dict[str, Any]], known: dict[str, slurm.Partition]) -> Iterator[str]:
    """Yield limits in a file of partitions that exceed SLURM's."""
    for name, promised in limits.items():
        if name not in known:
            continue
        has = {
            "max_runtime": known[name].minutes,
            "max_mem_mb": known[name].mem_mb,
            "max_gpu": sum(known[name].gpus.values()),
        }
        for key, most in has.items():
            if isinstance(promised.get(key), int | float) and promised[key] > most:
                yield (
                    f"partitions.yaml: {key} of {name!r} is {promised[key]:g}, but SLURM has {most:g}: a job "
                    "that asks for more is refused, or waits for ever"
                )


def _wrong_gpus(
    wanted: Iterable[str], limits: dict[str, dict[str, Any]], known: dict[str, slurm.Partition]
) -> Iterator[str]:
    """Yield the requested types of GPU that no node has."""
    everywhere = {kind for partition in known.values() for kind in partition.gpus}
    asked = [(kind, "config gpus", everywhere) for kind in wanted]
    for name, promised in limits.items():
        there = set(known[name].gpus) if name in known else set()
        asked += [(kind, f"partition {name!r}", there) for kind in promised.get("available_gpu_models") or ()]
    for kind, where, kinds in asked:
        if kind not in kinds:
            named = sorted(other for other in kinds if other)
            listed = _listed(named) or "none; leave the type out"
            yield f"{where}: no node has a GPU of type {kind!r}.{_meant(kind, named)} Types there: {listed}"


def _wrong_accounts(wanted: Iterable[str]) -> Iterator[str]:
    found = slurm.accounts() if wanted else None
    if found is None:
        return
    for account in wanted:
        if account.lower() not in {name.lower() for name in found}:
            yield (
                f"account {account!r} is not known for {user_name()}.{_meant(account, found)} "
                f"Known: {_listed(found) or 'none; ask who runs the cluster for one'}"
            )


def _forgotten_jobs(age: int | None, first_look: int) -> tuple[list[str], list[str]]:
    """Warnings and problems when SLURM has no accounting and forgets ended jobs early.

    Then the plugin polls sacct for ever although it was set to poll squeue; see `get_min_job_age` there.
    """
    forgets = f"SLURM has no accounting here and forgets ended jobs after {age} s (MinJobAge)"
    if age is not None and age < 3 * first_look and shutil.which("sacct"):
        return [], [
            f"{forgets}: the run would never hear of them. Set slurm-init-seconds-before-status-checks "
            f"in the profile to at most {max(1, age // 3)}"
        ]
    if age is not None and age < LONGEST_PAUSE:
        again = command("resume")
        return [f"{forgets}: a run that waits for one of them should be ended and taken up: {again}"], []
    return [], []


def _refusals(wanted: Wanted, limits: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield SLURM's refusals of a small job in each partition, where they concern permissions."""
    common = [
        *(f"--account={name}" for name in wanted.accounts[:1]),
        *(f"--qos={name}" for name in wanted.qos[:1]),
    ]
    refused: dict[str, list[str]] = {}
    for name, limit in limits.items():
        gpu = ["--gpus=1"] if limit.get("max_gpu") else []
        said = slurm.refusal([f"--partition={name}", *gpu, *common])
        if said and REFUSED.search(said):
            refused.setdefault(said, []).append(name)
    for said, names in refused.items():
        yield (
            f"SLURM refuses jobs in {_listed(names)}: {said}. Check slurm_account and qos in the profile; "
            f"with too many jobs submitted already, wait for some to end, then: {command('resume')}"
        )


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, [k for k in known if k], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
