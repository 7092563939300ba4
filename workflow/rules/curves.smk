"""Scores of sequences of edits, from outputs for tasks and observations of the edits themselves."""


include: "common/curves.smk"


localrules:
    score_tasks,
    score_sequences,
    score_among,


rule score_tasks:
    input:
        edits="results/{kg}/{model}/sequences/{plan}/edits.parquet",
        asked=items_of_tasks,
        unedited=unedited_of_tasks,
        outputs=outputs_of_tasks,
    output:
        answers="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/scored/answers.parquet",
        scores="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/scored/scores.parquet",
        examples="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/scored/examples.parquet",
    log:
        "results/logs/score_tasks/{kg}.{model}.{plan}.{editor}.o{order}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        tasks=scored_tasks,
        groups=lambda wildcards: checkpoint_groups(wildcards.plan),
        examples=config["abilities"]["examples"],
        seed=config["abilities"]["seed"],
        code=code_of("score_tasks"),
    message:
        "Scoring tasks along {wildcards.plan} of {wildcards.model} with {wildcards.editor}, order {wildcards.order}"
    script:
        "../scripts/score_tasks.py"


rule score_sequences:
    input:
        edits="results/{kg}/{model}/sequences/{plan}/edits.parquet",
        unedited="results/{kg}/{model}/sequences/{plan}/unedited.parquet",
        telemetry="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/telemetry.parquet",
        observations=observations_of_sequence,
    output:
        scores="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/scored/edits.parquet",
        health="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/scored/health.parquet",
    log:
        "results/logs/score_sequences/{kg}.{model}.{plan}.{editor}.o{order}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        plan=lambda wildcards: {
            key: PLANS[wildcards.plan][key] for key in ("mode", "batch", "checkpoints", "orders")
        },
        code=code_of("score_sequences"),
    message:
        "Scoring the edits along {wildcards.plan} of {wildcards.model} with {wildcards.editor}, order {wildcards.order}"
    script:
        "../scripts/score_sequences.py"


rule score_among:
    input:
        cases="results/{kg}/{model}/cases/{dataset}.parquet",
        probes="results/{kg}/{model}/cases/{dataset}.probes.parquet",
        unedited="results/{kg}/{model}/{dataset}/unedited.parquet",
        observations=of_cases_among(""),
        telemetry=of_cases_among("telemetry/"),
    output:
        "results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/scored/cases.{dataset}.parquet",
    log:
        "results/logs/score_among/{kg}.{model}.{plan}.{editor}.o{order}.{dataset}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        places=lambda wildcards: places_among(wildcards.plan),
        ranges=lambda wildcards: ranges_among(config, PLANS[wildcards.plan], wildcards.dataset),
        code=code_of("score_among"),
    message:
        "Scoring {wildcards.dataset} among edits of {wildcards.plan} of {wildcards.model} with {wildcards.editor}, order {wildcards.order}"
    script:
        "../scripts/score_among.py"
