"""Sequences of edits: their lists, their logs, and what models say to their prompts along them."""


include: "common/sequences.smk"


localrules:
    list_edits,


rule list_edits:
    input:
        file=file_of_edits,
        beside=prompts_beside,
        facts=when_from_graph("results/kg/{kg}/facts.parquet"),
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
