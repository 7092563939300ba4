"""Configuration of the rules of precision.smk."""

from aftershock.config.shards import compared_shards


def strict_engine(wildcards):
    """The options that the model of a job is computed with when it is exact."""
    return engine(wildcards) | {"precision": "strict"}


def shards_compared(wildcards):
    """Dataset and shard of the cases on which precisions are compared."""
    return compared_shards(config, SHARDS, wildcards.model, wildcards.editor)


def compared_files(wildcards, pattern):
    """A file of each compared shard."""
    folder, run = f"results/{wildcards.kg}/{wildcards.model}", f"{wildcards.editor}/s{wildcards.seed}"
    return [
        f"{folder}/{pattern.format(dataset=dataset, shard=shard, run=run)}"
        for dataset, shard in shards_compared(wildcards)
    ]
