"""Cases that are made of what a model knows, and what it is asked to find that out."""


include: "common/cases.smk"


localrules:
    list_facts,
    read_released,
    split_entities,
    build_cases,
    build_released_cases,


rule list_facts:
    input:
        facts="results/kg/{kg}/facts.parquet",
        instances="results/kg/{kg}/instances.parquet",
        objects="results/kg/{kg}/objects.parquet",
        taught=taught,
    output:
        facts="results/{kg}/{model}/asked/facts.parquet",
        objects="results/{kg}/{model}/asked/objects.parquet",
    log:
        "results/logs/list_facts/{kg}.{model}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        code=code_of("list_facts"),
    message:
        "Listing what {wildcards.model} is asked about {wildcards.kg}"
    script:
        "../scripts/list_facts.py"


rule read_released:
    input:
        released_files,
    output:
        facts="results/kg/{kg}/facts.parquet",
        relations="results/kg/{kg}/relations.parquet",
        asked="results/kg/{kg}/asked.facts.parquet",
        objects="results/kg/{kg}/asked.objects.parquet",
        conflict="results/kg/{kg}/prompts.conflict.parquet",
        round="results/kg/{kg}/prompts.round.parquet",
        findings="results/kg/{kg}/findings.csv",
    log:
        "results/logs/read_released/{kg}.log",
    wildcard_constraints:
        kg=any_of(RELEASED),
    conda:
        "../../envs/tables.yaml"
    params:
        folder=released_folder,
        datasets=config["datasets"],
        sample=lambda wildcards: graph(wildcards)["sample"],
        seed=config["cases"]["seed"],
        code=code_of("read_released"),
    message:
        "Reading the published files of {wildcards.kg}"
    script:
        "../scripts/read_released.py"


rule split_entities:
    input:
        facts="results/kg/{kg}/facts.parquet",
        instances="results/kg/{kg}/instances.parquet",
        objects="results/kg/{kg}/objects.parquet",
    output:
        "results/kg/{kg}/split.parquet",
    log:
        "results/logs/split_entities/{kg}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        shares=config["cases"]["split"],
        seed=config["cases"]["seed"],
        code=code_of("split_entities"),
    message:
        "Dividing the entities of {wildcards.kg}"
    script:
        "../scripts/split_entities.py"


rule build_cases:
    input:
        facts="results/kg/{kg}/facts.parquet",
        instances="results/kg/{kg}/instances.parquet",
        rules="results/kg/{kg}/rules.parquet",
        split="results/kg/{kg}/split.parquet",
        taught=taught,
        measured="results/kg/{kg}/relations.parquet",
        relations=f"{RESOURCES}/relations.tsv",
        prompts=prompts,
        verified="results/{kg}/{model}/verified.parquet",
        objects="results/{kg}/{model}/objects.parquet",
        texts=locality_texts,
    output:
        cases="results/{kg}/{model}/cases/{dataset}.parquet",
        edits="results/{kg}/{model}/cases/{dataset}.edits.parquet",
        probes="results/{kg}/{model}/cases/{dataset}.probes.parquet",
        counts="results/{kg}/{model}/cases/{dataset}.counts.csv",
    log:
        "results/logs/build_cases/{kg}.{model}.{dataset}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        namespace=lambda wildcards: graph(wildcards)["namespace"],
        settings=config["cases"],
        code=code_of("build_cases"),
    message:
        "Building {wildcards.dataset} for {wildcards.model}"
    script:
        "../scripts/build_cases.py"


rule build_released_cases:
    input:
        files=released_files,
        facts="results/kg/{kg}/facts.parquet",
        measured="results/kg/{kg}/relations.parquet",
        relations=f"{RESOURCES}/relations.tsv",
        prompts=prompts,
        verified="results/{kg}/{model}/verified.parquet",
        objects="results/{kg}/{model}/objects.parquet",
        texts=locality_texts,
    output:
        cases="results/{kg}/{model}/cases/{dataset}.parquet",
        edits="results/{kg}/{model}/cases/{dataset}.edits.parquet",
        probes="results/{kg}/{model}/cases/{dataset}.probes.parquet",
        counts="results/{kg}/{model}/cases/{dataset}.counts.csv",
    log:
        "results/logs/build_released_cases/{kg}.{model}.{dataset}.log",
    wildcard_constraints:
        kg=any_of(RELEASED),
    conda:
        "../../envs/tables.yaml"
    params:
        folder=released_folder,
        namespace=lambda wildcards: graph(wildcards)["namespace"],
        sample=lambda wildcards: graph(wildcards)["sample"],
        functionality=config["cases"]["functionality"],
        seed=config["cases"]["seed"],
        code=code_of("build_released_cases"),
    message:
        "Building {wildcards.dataset} for {wildcards.model} from published rows"
    script:
        "../scripts/build_released_cases.py"
