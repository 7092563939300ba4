"""Checks, before anything is submitted, for problems that would stop a run on a cluster.

Each problem is a PreflightError, or a SlurmError, with the thing, what was found and what to do.
"""

import argparse
import difflib
import os
import re
import socket
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from aftershock.jobs import slurm
from aftershock.jobs.folder import PreflightError, user_name
from aftershock.project import PROJECT
from aftershock.text_files import read_yaml

SPECIAL = re.compile(r"[^\w@%+=:,./~^-]")  # characters that a shell takes for more than themselves
NAMES = re.compile(r"[\w.+-]+(?:[,\s]+[\w.+-]+)*")
"""Names that a resource states as they are; what a job computes is not known yet."""


def fault_of_slurm() -> PreflightError | slurm.SlurmError | None:
    """Return why this machine cannot submit jobs; None where it can."""
    if not slurm.is_here():
        missing = f"no SLURM on {socket.gethostname()}: sinfo or sbatch is missing"
        return PreflightError(f"{missing}. {slurm.NOT_HERE}")
    try:
        slurm.settings()
    except slurm.SlurmError as error:
        return error
    return None


def check_paths() -> None:
    """Raise PreflightError for a path that would break the shell commands of Snakemake's slurm executor."""
    for path in (os.getcwd(), str(PROJECT), sys.executable):
        if found := sorted(set(SPECIAL.findall(path))):
            named = " ".join(map(repr, found))
            raise PreflightError(
                f"no job can be submitted for {path}: Snakemake's slurm executor puts this path into shell "
                f"commands as it is, where {named} means something else. Rename the folder"
            )


def check_cluster(options: argparse.Namespace, gpus: Iterable[str]) -> str:
    """Compare the requests in Snakemake's parsed arguments, and types of GPU, with the cluster.

    The program of SLURM that tells what became of jobs comes back. Raises PreflightError with all that does
    not fit, a line each.
    """
    given = options.slurm_partition_config  # a mark of dataclasses where it is missing
    file = given if isinstance(given, os.PathLike) else os.environ.get("SNAKEMAKE_SLURM_PARTITIONS")
    limits, known = _read_partitions(file) if file else {}, slurm.partitions()
    settings = slurm.settings()
    accounting = slurm.has_accounting(settings)
    wrong = [
        *_wrong_partitions({**_named("slurm_partition", options), **dict.fromkeys(limits, file)}, known),
        *_wrong_gpus(gpus, limits, known),
        *_wrong_accounts(_named("slurm_account", options) if accounting else ()),
        *([] if accounting else _forgotten(settings, options.slurm_init_seconds_before_status_checks)),
    ]
    if wrong:
        raise PreflightError("\n".join(wrong))
    return "sacct" if accounting else "squeue"


def _read_partitions(file: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """Limits by partition in the executor plugin's file."""
    try:
        return {str(name): dict(limits or {}) for name, limits in read_yaml(file)["partitions"].items()}
    except (OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise PreflightError(
            f"{file} is no file of partitions ({error}). It needs a key `partitions` with one entry for each"
        ) from None


def _named(resource: str, options: argparse.Namespace) -> dict[str, str]:
    """The names that a resource has by the options, each with where it stands."""
    places = [options.default_resources or {}, *(options.set_resources or {}).values()]
    texts = [str(place[resource].raw).strip("'\"") for place in places if resource in place]
    names = (name for text in texts if NAMES.fullmatch(text) for name in re.split(r"[,\s]+", text))
    return dict.fromkeys(names, f"resource {resource}")


def _wrong_partitions(wanted: Mapping[str, Any], known: Mapping[str, slurm.Partition]) -> Iterator[str]:
    for name, where in wanted.items():
        if name not in known:
            yield f"partition {name!r} ({where}) does not exist.{_known(name, known)}"
        elif not known[name].up:
            yield f"partition {name!r} ({where}) takes no jobs now: it is down. Wait, or take it out"
    if not wanted and not any(partition.default for partition in known.values()):
        yield f"this cluster has no default partition. Name one in partitions.yaml.{_known('', known)}"


def _wrong_gpus(
    wanted: Iterable[str], limits: Mapping[str, Mapping[str, Any]], known: Mapping[str, slurm.Partition]
) -> Iterator[str]:
    """Yield the requested types of GPU that no node has."""
    asked = [(kind, "config gpus", {kind for p in known.values() for kind in p.gpus}) for kind in wanted]
    for name, promised in limits.items():
        there = known[name].gpus if name in known else set()
        asked += [(kind, f"partition {name!r}", there) for kind in promised.get("available_gpu_models") or ()]
    for kind, where, kinds in asked:
        if kind not in kinds:
            types = _known(kind, kinds - {""}, "Types there", "none; leave the type out")
            yield f"{where}: no node has a GPU of type {kind!r}.{types}"


def _wrong_accounts(wanted: Collection[str]) -> Iterator[str]:
    found = slurm.accounts() if wanted else None
    for account in wanted if found is not None else ():
        if account.lower() not in {name.lower() for name in found or ()}:
            others = _known(account, found or (), none="none; ask who runs the cluster for one")
            yield f"account {account!r} is not known for {user_name()}.{others}"


def _forgotten(settings: Mapping[str, str], first_look: int) -> Iterator[str]:
    """Yield that SLURM forgets ended jobs before the executor asks, which waits `first_look` s first."""
    stated = re.match(r"\d+", settings.get("MinJobAge", ""))
    if stated and 0 < int(stated[0]) < 3 * first_look:
        yield (
            f"SLURM has no accounting here and forgets ended jobs after {stated[0]} s (MinJobAge): the run "
            "would never hear of them. Set slurm-init-seconds-before-status-checks in the profile to at most "
            f"{int(stated[0]) // 3 or 1}"
        )


def _known(name: str, known: Collection[str], label: str = "Known", none: str = "") -> str:
    """Return what a wrong name may have been meant for, and all that are known."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return f"{meant} {label}: {', '.join(sorted(known)) or none}"
