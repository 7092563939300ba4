"""Facts and datasets as ends in themselves, each with a datasheet."""


include: "common/datasets.smk"


localrules:
    describe_graph,
    describe_dataset,
    export_cases,
    facts,
    datasets,


rule describe_graph:
    input:
        file=described_file,
        account=account_of_atlas,
        sheet=f"{RESOURCES}/relations.tsv",
        sample="results/kg/{kg}/sample.parquet",
        rules="results/kg/{kg}/rules.parquet",
        relations="results/kg/{kg}/relations.parquet",
        labels="results/kg/{kg}/labels.parquet",
        combinations=combinations,
        found=one_to_many,
        true_objects="results/kg/{kg}/true_objects.parquet",
        facts="results/kg/{kg}/facts.parquet",
        instances="results/kg/{kg}/instances.parquet",
        summary="results/kg/{kg}/summary.csv",
    output:
        "results/kg/{kg}/datasheet.md",
    log:
        "results/logs/describe_graph/{kg}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        mining=config["mining"],
        rules=taken_rules,
        one_to_many=one_to_many_ids,
        code=code_of("describe_graph"),
    message:
        "Describing the facts of {wildcards.kg}"
    script:
        "../scripts/describe_graph.py"


rule describe_dataset:
    input:
        graph="results/kg/{kg}/datasheet.md",
        cases="results/{kg}/{model}/cases/{dataset}.parquet",
        edits="results/{kg}/{model}/cases/{dataset}.edits.parquet",
        probes="results/{kg}/{model}/cases/{dataset}.probes.parquet",
        counts="results/{kg}/{model}/cases/{dataset}.counts.csv",
        split="results/kg/{kg}/split.parquet",
        instances="results/kg/{kg}/instances.parquet",
        known=counts_of_known,
        facts="results/kg/{kg}/facts.parquet",
        screened="results/kg/{kg}/screened.tsv",
        objects="results/{kg}/{model}/objects.parquet",
    output:
        page="results/{kg}/{model}/cases/{dataset}.md",
        figures=multiext("results/{kg}/{model}/cases/{dataset}", ".svg", ".pdf", ".png"),
    log:
        "results/logs/describe_dataset/{kg}.{model}.{dataset}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        settings=config["cases"],
        code=code_of("describe_dataset"),
    message:
        "Describing {wildcards.dataset} for {wildcards.model}"
    script:
        "../scripts/describe_dataset.py"


rule export_cases:
    input:
        cases=expand("results/{{kg}}/{{model}}/cases/{name}.parquet", name=config["datasets"]),
        edits=expand("results/{{kg}}/{{model}}/cases/{name}.edits.parquet", name=config["datasets"]),
        probes=expand("results/{{kg}}/{{model}}/cases/{name}.probes.parquet", name=config["datasets"]),
        relations=f"{RESOURCES}/relations.tsv",
        prompts="results/kg/{kg}/prompts.parquet",
    output:
        directory("results/{kg}/{model}/released/{split}"),
    log:
        "results/logs/export_cases/{kg}.{model}.{split}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        datasets=config["datasets"],
        namespace=lambda wildcards: graph(wildcards)["namespace"],
        about=lambda wildcards: find_graph(graph(wildcards)["namespace"]).about,
        code=code_of("export_cases"),
    message:
        "Writing the {wildcards.split} cases for {wildcards.model} in the published format"
    script:
        "../scripts/export_cases.py"


rule facts:
    input:
        facts_of_run(),


rule datasets:
    input:
        facts_of_run(),
        datasets_of_run(),
