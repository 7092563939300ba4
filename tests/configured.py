"""The embedded configuration and the shipped studies, checked, with their models."""

import copy
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

import started
from aftershock.config import check_config
from aftershock.jobs.dag import Job
from aftershock.kg.plan import _update, read_study

ROOT = Path(__file__).parents[1]
CONTACT = {"kgs": {"wdqs": {"contact": "you@example.org"}}}


@cache
def _study(name):
    config = read_study([ROOT / "resources" / "studies" / f"{name}.yaml"] if name else [])
    if "wdqs" in config["kgs"]:
        _update(config, CONTACT)
    return config, check_config(config, ROOT)


def study(name=None, **changes):
    """A study's configuration with `changes` of its parts, and its models; by default the embedded one."""
    config, models = copy.deepcopy(_study(name))
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return config, models


def jobs_of(name=None, **changes):
    """All jobs of a study with `changes` of its parts, as Snakemake plans them in an empty folder."""
    return _jobs_of(name, json.dumps(changes))


@cache
def _jobs_of(name, changes):
    with TemporaryDirectory() as folder:
        more = Path(folder, "more.yaml")
        more.write_text(yaml.safe_dump((CONTACT if name == "pitfalls" else {}) | json.loads(changes)))
        files = [ROOT / "resources" / "studies" / f"{name}.yaml"] if name else []
        arguments = map(str, [*files, more])
        found = started.module(
            "aftershock.jobs.dag", Path(folder), *arguments, PYTHONPATH=str(ROOT / "workflow")
        )
    assert found.returncode == 0, found.stderr
    return [Job(*job) for job in json.loads(found.stdout.splitlines()[-1])]
