"""Division of a run's cases into jobs by their cost, for a device that the configuration names.

Where a study runs and what was measured there have no part in it, so a study is cut the same everywhere. A
size is 32, 64, 128 and so on cases, so that a slightly better estimate renames no file.
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from aftershock.budget.cost import Costs
from aftershock.budget.devices import find_device
from aftershock.budget.parts import BLOCK
from aftershock.config.settings import merged_settings
from aftershock.config.used import editors_of_dataset
from aftershock.datasets.table import find_dataset
from aftershock.editors.contract import is_in_order
from aftershock.editors.methods import settings_of
from aftershock.metrics.precision import CASES_NEEDED

OF_RUN, OF_DATASET, OF_STUDY = 2, 7, 120
"""Jobs beside those that edit, about: of each run its scores, of each model and dataset its cases and
baseline, and of the study its facts, models and report."""
Key = tuple[str, str, str]
"""Model, dataset, label of an editor."""


def number_of_cases(config: Mapping[str, Any], dataset: str) -> int:
    """Test cases of a dataset that a run edits."""
    kg = config["kgs"][config["kg"]]
    return kg["sample"] if kg["source"] == "released" else config["cases"]["quotas"]["test"].get(dataset, 0)


def shard_ranges(n: int, size: int) -> list[str]:
    """Ranges of `n` cases, `size` to each: `00000-00127`."""
    return [f"{start:05d}-{min(start + size, n) - 1:05d}" for start in range(0, n, size)]


def ranges_among(config: Mapping[str, Any], plan: Mapping[str, Any], dataset: str) -> list[str]:
    """Return the ranges of cases of a dataset that jobs edit among a plan's edits, a block to each."""
    return shard_ranges(min(plan["cases"]["quota"], number_of_cases(config, dataset)), BLOCK)


def compared_shards(
    config: Mapping[str, Any], sizes: Mapping[Key, int], model: str, label: str
) -> list[tuple[str, str]]:
    """Dataset and shard of cases on which precisions are compared: of each dataset in turn, until enough."""
    names = [name for name in config["datasets"] if (model, name, label) in sizes]
    ranges = (shard_ranges(number_of_cases(config, name), sizes[model, name, label]) for name in names)
    chosen: list[tuple[str, str]] = []
    tested = 0
    for row in zip_longest(*ranges):
        for name, shard in zip(names, row, strict=True):
            if shard and tested < CASES_NEEDED:
                first, last = map(int, shard.split("-"))
                chosen.append((name, shard))
                tested += last - first + 1
    return chosen


def shard_sizes(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> dict[Key, int]:
    """Cases of each job that edits, by model, dataset and editor: a multiple of 32, or all of them.

    All are one job where an edit depends on those before it. Else it is the largest of 32, 64, 128 and so on
    that `shards.device` edits in `shards.minutes`; all sizes double while the study has more jobs than
    `shards.max_jobs`. With `shards.cases` every job has as many.
    """
    wanted, sizes, whole = config["shards"], {}, set()
    for key, editor, n in _runs(config):
        in_order = is_in_order(settings_of(editor["method"], merged_settings(editor, models[key[0]])))
        if in_order or not n:
            whole.add(key)
            sizes[key] = max(n, 1)
        else:
            sizes[key] = wanted["cases"] or _size(config, models[key[0]], key, n)
    if wanted["cases"]:
        return sizes
    counts = {key: n for key, _, n in _runs(config)}
    others = OF_STUDY + OF_RUN * len(sizes) * len(config["seeds"])
    others += OF_DATASET * len(config["models"]) * len(config["datasets"])
    while True:
        jobs = {key: -(-counts[key] // size) for key, size in sizes.items()}
        cut = [key for key, number in jobs.items() if number > 1 and key not in whole]
        if not cut or others + len(config["seeds"]) * sum(jobs.values()) <= wanted["max_jobs"]:
            return sizes
        sizes |= {key: 2 * sizes[key] for key in cut}


def _runs(config: Mapping[str, Any]) -> Iterator[tuple[Key, Mapping[str, Any], int]]:
    for model in config["models"]:
        for dataset in config["datasets"]:
            for label in editors_of_dataset(config, dataset):
                yield (model, dataset, label), config["editors"][label], number_of_cases(config, dataset)


def _size(config: Mapping[str, Any], model: Mapping[str, Any], key: Key, n: int) -> int:
    """The largest step of the ladder that is edited in time, at most the smallest that holds `n` cases."""
    (_, dataset, label), device = key, find_device(config["shards"]["device"])
    work = Costs(config, model, device).edit(label, dataset, BLOCK).work
    blocks = config["shards"]["minutes"] * 60 / device.seconds(work, config["engine"]["precision"])
    size = BLOCK
    while size < n and 2 * size <= blocks * BLOCK:
        size *= 2
    return size


def hypernetwork_kind(config: Mapping[str, Any], dataset: str) -> str:
    """Kind of hypernetwork that edits a dataset."""
    return "all" if config["mend"]["kinds"] == "all" else find_dataset(dataset).kind
