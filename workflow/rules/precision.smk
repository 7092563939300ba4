"""A run of reduced precision is held against an exact one on some of its cases before anything is reported."""

from itertools import zip_longest
from types import SimpleNamespace

from aftershock.metrics.precision import CASES_NEEDED

STRICT = config["engine"] | {"precision": "strict"}


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


use rule baseline as baseline_strict with:
    output:
        "results/{kg}/{model}/{dataset}/strict/unedited.parquet",
    log:
        "results/logs/baseline_strict/{kg}.{model}.{dataset}.log",
    params:
        engine=STRICT,
        continuations=config["continuations"],
        code=code_hash("aftershock.editors.protocol"),
    message:
        "Scoring {wildcards.dataset} in the unedited {wildcards.model}, exactly"


use rule edit as edit_strict with:
    output:
        observations="results/{kg}/{model}/{dataset}/{editor}/s{seed}/strict/observations/{shard}.parquet",
        telemetry="results/{kg}/{model}/{dataset}/{editor}/s{seed}/strict/telemetry/{shard}.parquet",
    log:
        "results/logs/edit_strict/{kg}.{model}.{dataset}.{editor}.s{seed}.{shard}.log",
    params:
        engine=STRICT,
        editor=editor_settings,
        continuations=config["continuations"],
        dataset="{dataset}",
        seed=lambda wildcards: int(wildcards.seed),
        code=editor_code,
    message:
        "Editing {wildcards.model} with {wildcards.editor}, exactly: {wildcards.dataset} {wildcards.shard}"


rule compare_precision:
    input:
        cases=lambda wildcards: compared_files(wildcards, "cases/{dataset}.parquet"),
        probes=lambda wildcards: compared_files(wildcards, "cases/{dataset}.probes.parquet"),
        objects="results/{kg}/{model}/objects.parquet",
        unedited=lambda wildcards: compared_files(wildcards, "{dataset}/unedited.parquet"),
        unedited_strict=lambda wildcards: compared_files(wildcards, "{dataset}/strict/unedited.parquet"),
        observations=lambda wildcards: compared_files(
            wildcards, "{dataset}/{run}/observations/{shard}.parquet"
        ),
        telemetry=lambda wildcards: compared_files(wildcards, "{dataset}/{run}/telemetry/{shard}.parquet"),
        observations_strict=lambda wildcards: compared_files(
            wildcards, "{dataset}/{run}/strict/observations/{shard}.parquet"
        ),
        telemetry_strict=lambda wildcards: compared_files(
            wildcards, "{dataset}/{run}/strict/telemetry/{shard}.parquet"
        ),
    output:
        "results/{kg}/{model}/precision/{editor}.s{seed}.parquet",
    log:
        "results/logs/compare_precision/{kg}.{model}.{editor}.s{seed}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        precision=config["engine"]["precision"],
        compared=compared_shards,
        code=code_hash("aftershock.metrics.precision", "aftershock.metrics.run"),
    message:
        "Comparing precisions of {wildcards.editor} on {wildcards.model}"
    script:
        "../scripts/compare_precision.py"
