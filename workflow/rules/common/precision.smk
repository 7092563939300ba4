"""What the rules of precision.smk ask of the configuration."""

from itertools import zip_longest
from types import SimpleNamespace
from aftershock.metrics.precision import CASES_NEEDED


def strict_engine(wildcards):
    """The options that the model of a job is computed with when it is exact."""
    return engine(wildcards) | {"precision": "strict"}


def compared_shards(wildcards):
    """(dataset, shard) of the cases on which precisions are compared: of each dataset in turn, until enough."""
    names = [name for name in config["datasets"] if wildcards.editor in editors_of(name)]
    asked = [SimpleNamespace(model=wildcards.model, editor=wildcards.editor, dataset=name) for name in names]
    ranges = zip_longest(*([(run.dataset, shard) for shard in shards(run)] for run in asked))
    chosen, tested = [], 0
    for name, shard in (pair for row in ranges for pair in row if pair):
        if tested >= CASES_NEEDED:
            break
        first, last = map(int, shard.split("-"))
        chosen.append((name, shard))
        tested += last - first + 1
    return chosen


def compared_files(wildcards, pattern):
    """A file of each compared shard."""
    folder, run = f"results/{wildcards.kg}/{wildcards.model}", f"{wildcards.editor}/s{wildcards.seed}"
    return [
        f"{folder}/{pattern.format(dataset=dataset, shard=shard, run=run)}"
        for dataset, shard in compared_shards(wildcards)
    ]
