"""The embedded configuration and the shipped studies, checked, with their models."""

import copy
from functools import cache
from pathlib import Path

from aftershock.config import check_config
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
