"""Sequences of edits: their lists, their logs, and what models say to their prompts along them."""


include: "common/sequences.smk"


localrules:
    list_edits,


rule list_edits:
    input:
        file=file_of_edits,
        beside=prompts_beside,
        facts=when_from_graph("results/kg/{kg}/facts.parquet"),
        rules=when_from_graph("results/kg/{kg}/rules.parquet"),
        split=when_from_graph("results/kg/{kg}/split.parquet"),
        verified=when_from_graph("results/{kg}/{model}/verified.parquet"),
        taught=taught_to_edit,
        cases=source_cases(""),
        edits=source_cases(".edits"),
        probes=source_cases(".probes"),
        prompts=prompts_of_edits,
        cases_among=cases_among(""),
        edits_among=cases_among(".edits"),
    output:
        edits="results/{kg}/{model}/sequences/{plan}/edits.parquet",
        probes="results/{kg}/{model}/sequences/{plan}/probes.parquet",
    log:
        "results/logs/list_edits/{kg}.{model}.{plan}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        source=source_of_edits,
        wanted=lambda wildcards: PLANNED[wildcards.plan].edits,
        repeats=lambda wildcards: PLANS[wildcards.plan]["repeats"],
        quota_among=quota_among,
        code=code_of("list_edits"),
    message:
        "Listing the edits of {wildcards.plan} for {wildcards.model}"
    script:
        "../scripts/list_edits.py"


rule probe_unedited:
    input:
        weights="results/models/{model}/weights",
        edits="results/{kg}/{model}/sequences/{plan}/edits.parquet",
        probes="results/{kg}/{model}/sequences/{plan}/probes.parquet",
    output:
        "results/{kg}/{model}/sequences/{plan}/unedited.parquet",
    log:
        "results/logs/probe_unedited/{kg}.{model}.{plan}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("probe_unedited"),
    params:
        engine=engine,
        code=code_with_model("probe_unedited"),
    message:
        "Asking the prompts of {wildcards.plan} of the unedited {wildcards.model}"
    script:
        "../scripts/probe_unedited.py"


rule edit_sequence:
    input:
        weights="results/models/{model}/weights",
        edits="results/{kg}/{model}/sequences/{plan}/edits.parquet",
        artifacts=artifacts_of_sequence,
        trials=trials,
    output:
        log=directory("results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/log"),
        telemetry="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/telemetry.parquet",
    log:
        "results/logs/edit_sequence/{kg}.{model}.{plan}.{editor}.o{order}.log",
    priority: 1  # all that is asked at checkpoints waits for it
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("edit_sequence"),
    params:
        engine=engine,
        editor=editor_settings,
        loaders=loaders_of_sequence,
        plan=plan_values,
        health=config["health"]["every"],
        seed=lambda wildcards: int(wildcards.order),
        code=code_with_editor("edit_sequence"),
    message:
        "Editing {wildcards.model} with {wildcards.editor}: {wildcards.plan}, order {wildcards.order}"
    script:
        "../scripts/edit_sequence.py"


rule probe_sequence:
    input:
        weights="results/models/{model}/weights",
        edits="results/{kg}/{model}/sequences/{plan}/edits.parquet",
        probes="results/{kg}/{model}/sequences/{plan}/probes.parquet",
        log="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/log",
        referred=files_of_states,
    output:
        "results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/edits/{checkpoints}.parquet",
    log:
        "results/logs/probe_sequence/{kg}.{model}.{plan}.{editor}.o{order}.{checkpoints}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("probe_sequence"),
    params:
        engine=engine,
        plan=plan_values,
        referred=loaders_of_states,
        checkpoints=lambda wildcards: PLANNED[wildcards.plan].checkpoints_of(wildcards.checkpoints),
        code=code_with_model("probe_sequence"),
    message:
        "Asking the edits of {wildcards.plan} after {wildcards.checkpoints} by {wildcards.editor} of {wildcards.model}"
    script:
        "../scripts/probe_sequence.py"


rule edit_among:
    input:
        weights="results/models/{model}/weights",
        sequence="results/{kg}/{model}/sequences/{plan}/edits.parquet",
        log=log_before,
        cases="results/{kg}/{model}/cases/{dataset}.parquet",
        edits="results/{kg}/{model}/cases/{dataset}.edits.parquet",
        probes="results/{kg}/{model}/cases/{dataset}.probes.parquet",
        prompts=prompts,
        artifacts=artifacts_of_sequence,
        trials=trials,
    output:
        observations="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/cases/{dataset}/{place}/{shard}.parquet",
        telemetry="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/cases/{dataset}/telemetry/{place}/{shard}.parquet",
    log:
        "results/logs/edit_among/{kg}.{model}.{plan}.{editor}.o{order}.{dataset}.{place}.{shard}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("edit_among"),
    params:
        engine=engine,
        editor=editor_settings,
        loaders=loaders_of_sequence,
        plan=plan_values,
        numbers=lambda wildcards: PLANS[wildcards.plan]["cases"][wildcards.place],
        seed=lambda wildcards: int(wildcards.order),
        code=code_with_editor("edit_among"),
    message:
        "Editing {wildcards.dataset} {wildcards.shard} with unrelated edits {wildcards.place} by {wildcards.editor} of {wildcards.model}: {wildcards.plan}, order {wildcards.order}"
    script:
        "../scripts/edit_among.py"
