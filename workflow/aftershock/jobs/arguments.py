"""Settings of a coming run from Snakemake's arguments and profiles: its executor and SLURM options."""

import argparse
import importlib.metadata
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from aftershock.text_files import read_yaml

SNAKEMAKE = int(importlib.metadata.version("snakemake").split(".")[0])


@dataclass(frozen=True)
class Wanted:
    """SLURM options of a coming run, as far as its arguments state them."""

    partition_file: Path | None = None
    partitions: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    first_look: int = 40
    """Seconds before the plugin first queries a job's state."""
    jobs: int = 1
    """Largest number of jobs that Snakemake submits at a time."""


def chosen_executor(arguments: Sequence[str]) -> str | None:
    """Snakemake's executor by its arguments and profiles; None for the default.

    Found out without loading Snakemake, whose slurm plugin asks the controller while it is loaded.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--executor", "-e")
    parser.add_argument("--profile", action="append")
    parser.add_argument("--workflow-profile", default="default")
    given, _ = parser.parse_known_args(arguments)
    if given.executor:
        return given.executor
    own, named = given.workflow_profile, os.environ.get("SNAKEMAKE_PROFILE")
    profiles = given.profile or ([named] if named else [])
    for profile in (own, f"profiles/{own}", f"workflow/profiles/{own}", *reversed(profiles)):
        path = profile_file(profile)
        executor = (read_yaml(path) or {}).get("executor") if path else None
        if executor:
            return executor
    return None


def profile_file(profile: str) -> Path | None:
    """The file of a profile: given itself, by its folder, or by the name of one of the user or the site."""
    from platformdirs import site_config_dir, user_config_dir

    for place in (Path(), *(Path(f("snakemake", "snakemake")) for f in (user_config_dir, site_config_dir))):
        path = place / profile
        if path.is_file():
            return path
        versions = {file: _oldest_snakemake(file.name) for file in path.glob("*.yaml")}
        fitting = {
            file: oldest for file, oldest in versions.items() if oldest is not None and oldest <= SNAKEMAKE
        }
        if fitting:
            return max(fitting, key=fitting.__getitem__)
    return None


def _oldest_snakemake(name: str) -> int | None:
    """The major version from which on a profile's file is meant; None for other files."""
    found = re.fullmatch(r"(?:profile|config)(?:\.v(\d+)\+)?\.yaml", name)
    return int(found[1] or 0) if found else None


def wanted(options: argparse.Namespace) -> Wanted:
    """The SLURM options in Snakemake's parsed arguments."""
    resources = [options.default_resources or {}, *(options.set_resources or {}).values()]
    file = _given(options, "slurm_partition_config") or os.environ.get("SNAKEMAKE_SLURM_PARTITIONS")
    qos = _given(options, "slurm_qos")
    return Wanted(
        partition_file=Path(file) if file else None,
        partitions=_named("slurm_partition", resources),
        accounts=_named("slurm_account", resources),
        qos=(*([qos] if qos else []), *_named("qos", resources)),
        gpus=tuple(configuration_of(options).get("gpus") or ()),
        jobs=options.jobs or Wanted.jobs,
        first_look=_given(options, "slurm_init_seconds_before_status_checks") or Wanted.first_look,
    )


def _given(options: argparse.Namespace, name: str) -> Any:
    """An option of the plugin; None when it was not given."""
    value = getattr(options, name, None)
    return None if value is MISSING or isinstance(value, type(MISSING)) else value


def _named(name: str, resources: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The literal values of a resource; computed ones are not known yet."""
    found = [str(given[name].raw).strip("'\"") for given in resources if name in given]
    return tuple(dict.fromkeys(part for value in found for part in _split(value)))


def _split(value: str) -> list[str]:
    """The names in a value, which may list several; none when it is an expression."""
    parts = re.split(r"[,\s]+", value)
    return parts if all(re.fullmatch(r"[\w.+-]+", part) for part in parts) else []


def configuration_of(options: argparse.Namespace) -> dict[str, Any]:
    """The configuration as Snakemake merges it: the project's file, the given files, the given values."""
    from snakemake.cli import parse_config
    from snakemake.common.configfile import load_configfile
    from snakemake.utils import update_config

    config: dict[str, Any] = {}
    for path in (Path(options.snakefile or "Snakefile").parent / "config.yaml", *(options.configfile or ())):
        if Path(path).exists():
            update_config(config, load_configfile(path))
    update_config(config, parse_config(options.config))
    return config
