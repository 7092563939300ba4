"""Texts that are left out so that no dataset offends or tells untruths about the living."""


include: "common/screen.smk"


# They may need a network, which jobs on a cluster may not have.
localrules:
    fetch_classifier,
    mine_living,


rule fetch_classifier:
    output:
        directory("results/screen/classifier"),
    log:
        "results/logs/fetch_classifier/all.log",
    conda:
        "../../envs/models.yaml"
    params:
        source=lambda wildcards: config["screen"]["classifier"]["source"],
        code=code_of("fetch_classifier"),
    message:
        "Fetching the classifier of texts"
    script:
        "../scripts/fetch_classifier.py"


rule classify_labels:
    input:
        classifier="results/screen/classifier",
        labels="results/kg/{kg}/labels.parquet",
    output:
        "results/kg/{kg}/label_scores.parquet",
    log:
        "results/logs/classify_labels/{kg}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("classify_labels"),
    params:
        label=lambda wildcards: config["screen"]["classifier"]["label"],
        code=code_of("classify_labels"),
    message:
        "Classifying the labels of {wildcards.kg}"
    script:
        "../scripts/classify_labels.py"


rule mine_living:
    input:
        store=graph_store,
        labels="results/kg/{kg}/labels.parquet",
    output:
        "results/kg/{kg}/living.parquet",
    log:
        "results/logs/mine_living/{kg}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        code=code_of("mine_living"),
    message:
        "Looking up who lives in {wildcards.kg}"
    script:
        "../scripts/mine_living.py"
