"""Division of a run's cases into jobs by their cost, for a device that the configuration names.

Where a study runs and what was measured there have no part in it, so a study is cut the same everywhere. A
size is 32, 64, 128 and so on cases, so that a slightly better estimate renames no file.
"""

from collections.abc import Mapping
from typing import Any

from aftershock.budget.cost import Costs
from aftershock.budget.devices import find_device
from aftershock.config.settings import merged_settings
from aftershock.config.shards import BLOCK, Key, number_of_cases
from aftershock.config.used import editors_of_dataset
from aftershock.editors.contract import is_in_order
from aftershock.editors.methods import settings_of

OF_RUN, OF_STUDY = 3, 120
"""Jobs beside those that edit, about: of each run, and of the study its facts, models and report."""


def shard_sizes(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> dict[Key, int]:
    """Return the cases of each job that edits, by model, dataset and editor: a multiple of 32, or all.

    All are one job where an edit depends on those before it. Else it is the largest of 32, 64, 128 and so on
    that `shards.device` edits in `shards.minutes`; all sizes double while the study has more jobs than
    `shards.max_jobs`. With `shards.cases` every job has as many.
    """
    wanted, sizes, cut = config["shards"], {}, {}
    for dataset in config["datasets"]:
        n = number_of_cases(config, dataset)
        for model, label in [(m, e) for m in config["models"] for e in editors_of_dataset(config, dataset)]:
            key, editor = (model, dataset, label), config["editors"][label]
            if not n or is_in_order(settings_of(editor["method"], merged_settings(editor, models[model]))):
                sizes[key] = max(n, 1)
            else:
                sizes[key] = wanted["cases"] or _size(config, models[model], key, n)
                cut[key] = n
    seeds = len(config["seeds"])
    while not wanted["cases"]:
        jobs = sum(-(-n // sizes[key]) for key, n in cut.items()) + len(sizes) - len(cut)
        cut = {key: n for key, n in cut.items() if sizes[key] < n}
        if not cut or OF_STUDY + seeds * (jobs + OF_RUN * len(sizes)) <= wanted["max_jobs"]:
            break
        sizes |= {key: 2 * sizes[key] for key in cut}
    return sizes


def _size(config: Mapping[str, Any], model: Mapping[str, Any], key: Key, n: int) -> int:
    """The largest step of the ladder that is edited in time, at most the smallest that holds `n` cases."""
    (_, dataset, label), device = key, find_device(config["shards"]["device"])
    work = Costs(config, model, device).edit(label, dataset, BLOCK).work
    blocks = config["shards"]["minutes"] * 60 / device.seconds(work, config["engine"]["precision"])
    size = BLOCK
    while size < n and 2 * size <= blocks * BLOCK:
        size *= 2
    return size
