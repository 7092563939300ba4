"""A run of reduced precision is held against an exact one on some of its cases before anything is reported."""


include: "common/precision.smk"


localrules:
    compare_precision,


use rule baseline as baseline_strict with:
    output:
        "results/{kg}/{model}/{dataset}/strict/unedited.parquet",
    log:
        "results/logs/baseline_strict/{kg}.{model}.{dataset}.log",
    resources:
        **gpu_job("baseline_strict"),
    params:
        engine=strict_engine,
        continuations=config["continuations"],
        code=code_with_model("baseline"),
    message:
        "Scoring {wildcards.dataset} in the unedited {wildcards.model}, exactly"


use rule edit as edit_strict with:
    output:
        observations="results/{kg}/{model}/{dataset}/{editor}/s{seed}/strict/observations/{shard}.parquet",
        telemetry="results/{kg}/{model}/{dataset}/{editor}/s{seed}/strict/telemetry/{shard}.parquet",
        health="results/{kg}/{model}/{dataset}/{editor}/s{seed}/strict/health/{shard}.parquet",
    log:
        "results/logs/edit_strict/{kg}.{model}.{dataset}.{editor}.s{seed}.{shard}.log",
    resources:
        **gpu_job("edit_strict"),
    params:
        engine=strict_engine,
        editor=editor_settings,
        continuations=config["continuations"],
        health=config["health"]["every"],
        states=lambda wildcards: states_as_values(wildcards.dataset),
        seed=lambda wildcards: int(wildcards.seed),
        code=code_with_editor("edit"),
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
        compared=shards_compared,
        code=code_of("compare_precision"),
    message:
        "Comparing precisions of {wildcards.editor} on {wildcards.model}"
    script:
        "../scripts/compare_precision.py"
