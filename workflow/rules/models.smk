"""Models: trained from scratch on a graph, or fetched; and what editing needs to know about them."""


include: "common/models.smk"


# What fetches needs a network, which jobs on a cluster may not have; select_taught is light.
localrules:
    fetch_model,
    fetch_moments,
    fetch_text,
    select_taught,


rule select_taught:
    input:
        facts=lambda wildcards: f"results/kg/{model(wildcards)['kg']}/facts.parquet",
        instances=lambda wildcards: f"results/kg/{model(wildcards)['kg']}/instances.parquet",
        objects=lambda wildcards: f"results/kg/{model(wildcards)['kg']}/objects.parquet",
    output:
        "results/models/{model}/taught.parquet",
    log:
        "results/logs/select_taught/{model}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        facts=lambda wildcards: model(wildcards)["train"]["facts"],
        seed=lambda wildcards: model(wildcards)["train"]["seed"],
        code=code_of("select_taught"),
    message:
        "Choosing what {wildcards.model} is taught"
    script:
        "../scripts/select_taught.py"


rule train_lm:
    input:
        taught="results/models/{model}/taught.parquet",
        prompts=lambda wildcards: f"results/kg/{model(wildcards)['kg']}/prompts.parquet",
        relations=f"{RESOURCES}/relations.tsv",
    output:
        weights=directory("results/models/{model}/weights"),
        text="results/models/{model}/text.txt",
        recall="results/models/{model}/recall.parquet",
    log:
        "results/logs/train_lm/{model}.log",
    wildcard_constraints:
        model=any_of(TRAINED),
    conda:
        "../../envs/models.yaml"
    threads: training_parts  # each of them a process; with fewer cores one process takes several
    resources:
        **gpu_job("train_lm"),
        process_threads=1,
    params:
        architecture=lambda wildcards: model(wildcards)["architecture"],
        train=training,
        namespace=lambda wildcards: config["kgs"][model(wildcards)["kg"]]["namespace"],
        seed=lambda wildcards: model(wildcards)["train"]["seed"],
        code=code_of("train_lm", *GPT2),
    message:
        "Training {wildcards.model}"
    script:
        "../scripts/train_lm.py"


rule fetch_model:
    output:
        directory("results/models/{model}/weights"),
    log:
        "results/logs/fetch_model/{model}.log",
    wildcard_constraints:
        model=any_of(FETCHED),
    conda:
        "../../envs/models.yaml"
    params:
        source=lambda wildcards: model(wildcards)["source"],
        code=code_of("fetch_model"),
    message:
        "Fetching {wildcards.model}"
    script:
        "../scripts/fetch_model.py"


rule fetch_text:
    output:
        directory("results/models/{model}/text"),
    log:
        "results/logs/fetch_text/{model}.log",
    conda:
        "../../envs/models.yaml"
    params:
        source=lambda wildcards: model(wildcards)["moments"]["text"],
        code=code_of("fetch_text"),
    message:
        "Fetching text for {wildcards.model}"
    script:
        "../scripts/fetch_text.py"


rule gather_text:
    input:
        weights="results/models/{model}/weights",
        text=gathered_text,
    output:
        "results/models/{model}/gathered.jsonl",
    log:
        "results/logs/gather_text/{model}.log",
    wildcard_constraints:
        model=any_of(GATHERED),
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("gather_text"),
    params:
        layers=layers_with_moments,
        sample=gathered_sample,
        reader=reader,
        code=code_with_model("gather_text"),
    message:
        "Gathering text for second moments of {wildcards.model}"
    script:
        "../scripts/gather_text.py"


rule moments:
    input:
        weights="results/models/{model}/weights",
        text=moments_text,
    output:
        moments="results/models/{model}/moments.safetensors",
        table="results/models/{model}/moments.parquet",
    log:
        "results/logs/moments/{model}.log",
    wildcard_constraints:
        model=any_of(set(MODELS) - set(PUBLISHED)),
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("moments"),
    params:
        layers=layers_with_moments,
        sample=moments_sample,
        reader=reader,
        code=code_with_model("moments"),
    message:
        "Collecting second moments of {wildcards.model}"
    script:
        "../scripts/moments.py"


rule attention_moments:
    input:
        weights="results/models/{model}/weights",
        text=moments_text,
    output:
        moments="results/models/{model}/attention_moments.safetensors",
        table="results/models/{model}/attention_moments.parquet",
    log:
        "results/logs/attention_moments/{model}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("attention_moments"),
    params:
        part="attention",
        layers=layers_with_attention_moments,
        sample=moments_sample,
        reader=reader,
        code=code_with_model("moments"),
    message:
        "Collecting second moments of the attentions of {wildcards.model}"
    script:
        "../scripts/moments.py"


rule fetch_moments:
    output:
        directory("results/models/{model}/published"),
    log:
        "results/logs/fetch_moments/{model}.log",
    wildcard_constraints:
        model=any_of(PUBLISHED),
    conda:
        "../../envs/models.yaml"
    params:
        source=published_source,
        layers=layers_with_moments,
        code=code_of("fetch_moments"),
    message:
        "Fetching second moments of {wildcards.model}"
    script:
        "../scripts/fetch_moments.py"


rule take_moments:
    input:
        weights="results/models/{model}/weights",
        published="results/models/{model}/published",
    output:
        moments="results/models/{model}/moments.safetensors",
        table="results/models/{model}/moments.parquet",
    log:
        "results/logs/take_moments/{model}.log",
    wildcard_constraints:
        model=any_of(PUBLISHED),
    conda:
        "../../envs/models.yaml"
    params:
        layers=layers_with_moments,
        code=code_of("take_moments"),
    message:
        "Taking published second moments of {wildcards.model}"
    script:
        "../scripts/take_moments.py"


rule null_space:
    input:
        "results/models/{model}/moments.safetensors",
    output:
        "results/models/{model}/null_space.safetensors",
    log:
        "results/logs/null_space/{model}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("null_space"),
    params:
        layers=layers_with_null_space,
        code=code_of("null_space"),
    message:
        "Finding the null space of second moments of {wildcards.model}"
    script:
        "../scripts/null_space.py"


rule find_layers:
    input:
        weights="results/models/{model}/weights",
        cases="results/{kg}/{model}/cases/coverage.parquet",
        edits="results/{kg}/{model}/cases/coverage.edits.parquet",
        probes="results/{kg}/{model}/cases/coverage.probes.parquet",
        prompts=prompts_for_facts,
        text=swept_text,
    output:
        table="results/{kg}/{model}/layers.parquet",
        figures=multiext("results/{kg}/{model}/layers", ".svg", ".pdf", ".png"),
    log:
        "results/logs/find_layers/{kg}.{model}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("find_layers"),
    params:
        settings=config["find_layers"],
        editors=swept_editors,
        sample=moments_sample,
        engine=engine,
        seed=config["find_layers"]["seed"],
        level=config["statistics"]["level"],
        code=code_of_sweep,
    message:
        "Finding the layers of {wildcards.model} that hold facts of {wildcards.kg}"
    script:
        "../scripts/find_layers.py"
