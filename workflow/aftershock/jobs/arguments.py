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
PROFILE = re.compile(r"(?:profile|config)(?:\.v(\d+)\+)?\.yaml")
"""Names of a profile's files, with the major version of Snakemake from which on they are meant."""


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

    for place in (".", user_config_dir("snakemake", "snakemake"), site_config_dir("snakemake", "snakemake")):
        path = Path(place, profile)
        if path.is_file():
            return path
        named = [(file, PROFILE.fullmatch(file.name)) for file in path.glob("*.yaml")]
        fitting = {int(name[1] or 0): file for file, name in named if name and int(name[1] or 0) <= SNAKEMAKE}
        if fitting:
            return fitting[max(fitting)]
    return None


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
    """The literal values of a resource, which may be lists of names; computed ones are not known yet."""
    found: list[str] = []
    for given in resources:
        parts = re.split(r"[,\s]+", str(given[name].raw).strip("'\"")) if name in given else []
        if all(re.fullmatch(r"[\w.+-]+", part) for part in parts):
            found += parts
    return tuple(dict.fromkeys(found))


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
