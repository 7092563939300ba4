"""Knowledge of a model: it is asked in one or several jobs, and a cheap one says what counts as known."""


include: "common/knowledge.smk"


# fetch_encoder needs a network, which jobs on a cluster may not have; the others are light.
localrules:
    fetch_encoder,
    judge_facts,
    judge_objects,


rule fetch_encoder:
    output:
        directory("results/encoder"),
    log:
        "results/logs/fetch_encoder/all.log",
    conda:
        "../../envs/encoder.yaml"
    params:
        source=encoder_source,
        code=code_of("fetch_encoder"),
    message:
        "Fetching the encoder of labels"
    script:
        "../scripts/fetch_encoder.py"


rule verify_facts:
    input:
        weights="results/models/{model}/weights",
        facts=asked_facts,
        prompts=prompts_for_facts,
    output:
        "results/{kg}/{model}/answers/facts.{part}.parquet",
    log:
        "results/logs/verify_facts/{kg}.{model}.{part}.log",
    wildcard_constraints:
        part=r"\d+-of-\d+",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("verify_facts"),
    params:
        engine=engine,
        tokens=config["cases"]["continuation_tokens"],
        candidates=config["cases"]["rank_candidates"],
        seed=config["cases"]["seed"],
        code=code_with_model("verify_facts"),
    message:
        "Asking {wildcards.model} which facts of {wildcards.kg} it knows ({wildcards.part})"
    script:
        "../scripts/verify_facts.py"


rule judge_facts:
    input:
        answers=lambda wildcards: answers(wildcards, "facts"),
        facts=asked_facts,
        instances=asked_instances,
    output:
        verified="results/{kg}/{model}/verified.parquet",
        counts="results/{kg}/{model}/verified.csv",
    log:
        "results/logs/judge_facts/{kg}.{model}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        settings=config["cases"]["verification"],
        quotas=config["cases"]["quotas"],
        code=code_of("judge_facts"),
    message:
        "Counting the facts of {wildcards.kg} that {wildcards.model} knows"
    script:
        "../scripts/judge_facts.py"


rule score_objects:
    input:
        weights="results/models/{model}/weights",
        objects=asked_objects,
        prompts=prompts_for_objects,
        encoder=label_encoder,
    output:
        "results/{kg}/{model}/answers/objects.{part}.parquet",
    log:
        "results/logs/score_objects/{kg}.{model}.{part}.log",
    wildcard_constraints:
        part=r"\d+-of-\d+",
    conda:
        f"../../envs/{'models' if config['cases']['label_encoder'] == 'model' else 'encoder'}.yaml"
    resources:
        **gpu_job("score_objects"),
    params:
        engine=engine,
        candidates=config["cases"]["rank_candidates"],
        seed=config["cases"]["seed"],
        code=code_with_model("score_objects"),
    message:
        "Asking {wildcards.model} which objects in {wildcards.kg} it knows ({wildcards.part})"
    script:
        "../scripts/score_objects.py"


rule judge_objects:
    input:
        answers=lambda wildcards: answers(wildcards, "objects"),
        objects=asked_objects,
    output:
        scores="results/{kg}/{model}/objects.parquet",
        counts="results/{kg}/{model}/objects.csv",
    log:
        "results/logs/judge_objects/{kg}.{model}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        limits=config["cases"]["known_objects"],
        min_known=config["cases"]["min_known_objects"],
        quotas=config["cases"]["quotas"],
        code=code_of("judge_objects"),
    message:
        "Counting the objects in {wildcards.kg} that {wildcards.model} knows"
    script:
        "../scripts/judge_objects.py"
