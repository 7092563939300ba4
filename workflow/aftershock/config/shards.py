"""The test cases of a run, and the ranges of them that are a job each."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from aftershock.metrics.precision import CASES_NEEDED

BLOCK = 32
"""Cases that are edited and scored together; no range cuts them."""
Key = tuple[str, str, str]
"""Model, dataset, label of an editor."""


def number_of_cases(config: Mapping[str, Any], dataset: str) -> int:
    """Return the number of test cases of a dataset that a run edits."""
    kg = config["kgs"][config["kg"]]
    return kg["sample"] if kg["source"] == "released" else config["cases"]["quotas"]["test"].get(dataset, 0)


def shard_ranges(n: int, size: int) -> list[str]:
    """Return the ranges of `n` cases, `size` to each: `00000-00127`."""
    return [f"{start:05d}-{min(start + size, n) - 1:05d}" for start in range(0, n, size)]


def ranges_among(config: Mapping[str, Any], plan: Mapping[str, Any], dataset: str) -> list[str]:
    """Return the ranges of cases of a dataset that jobs edit among a plan's edits, a block to each."""
    return shard_ranges(min(plan["cases"]["quota"], number_of_cases(config, dataset)), BLOCK)


def compared_shards(
    config: Mapping[str, Any], sizes: Mapping[Key, int], model: str, label: str
) -> list[tuple[str, str]]:
    """Return dataset and shard of cases on which precisions are compared: of each in turn, until enough."""
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
