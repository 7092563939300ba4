"""Paraphrases that a language model is asked for where reviewed ones are few, and the prompts of a graph."""


include: "common/paraphrases.smk"


SAMPLED = ("model", "temperature", "seed", "max_tokens")
EFFORT = ("candidates", "requests")


# ask_paraphrases needs a network and a key, which jobs on a cluster may not have; the others are light.
localrules:
    ask_paraphrases,
    choose_paraphrases,
    paraphrase,


rule ask_paraphrases:
    input:
        relations=f"{RESOURCES}/relations.tsv",
        paraphrases=f"{RESOURCES}/paraphrases.tsv",
        words=screened_words,
        screen=f"{RESOURCES}/screen.tsv",
        facts="results/kg/{kg}/facts.parquet",
    output:
        requests="results/kg/{kg}/paraphrases/openai/requests.parquet",
        candidates="results/kg/{kg}/paraphrases/openai/candidates.parquet",
    log:
        "results/logs/ask_paraphrases/{kg}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        **paraphrase_settings("relations", "prices"),
        source=graph,
        service=paraphrase_settings(*SAMPLED, "base_url", "key", "patience"),
        effort=paraphrase_settings(*EFFORT),
        code=code_of("ask_paraphrases"),
    message:
        "Asking a service for paraphrases of the prompts of {wildcards.kg}"
    script:
        "../scripts/ask_paraphrases.py"


rule sample_paraphrases:
    input:
        relations=f"{RESOURCES}/relations.tsv",
        paraphrases=f"{RESOURCES}/paraphrases.tsv",
        words=screened_words,
        screen=f"{RESOURCES}/screen.tsv",
        facts="results/kg/{kg}/facts.parquet",
        weights=weights_of("model"),
    output:
        requests="results/kg/{kg}/paraphrases/local/requests.parquet",
        candidates="results/kg/{kg}/paraphrases/local/candidates.parquet",
    log:
        "results/logs/sample_paraphrases/{kg}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("sample_paraphrases"),
    params:
        **paraphrase_settings("relations"),
        source=graph,
        model=paraphrase_settings(*SAMPLED),
        effort=paraphrase_settings(*EFFORT),
        engine=engine_of(config["paraphrases"]["model"]),
        code=code_with_model("sample_paraphrases"),
    message:
        "Sampling paraphrases of the prompts of {wildcards.kg}"
    script:
        "../scripts/sample_paraphrases.py"


rule score_paraphrases:
    input:
        candidates="results/kg/{kg}/paraphrases/{backend}/candidates.parquet",
        facts="results/kg/{kg}/facts.parquet",
        weights=weights_of("ranking_model"),
    output:
        "results/kg/{kg}/paraphrases/{backend}/scores.parquet",
    log:
        "results/logs/score_paraphrases/{kg}.{backend}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("score_paraphrases"),
    params:
        engine=engine_of(config["paraphrases"]["ranking_model"]),
        facts=config["paraphrases"]["ranking_facts"],
        seed=config["paraphrases"]["seed"],
        code=code_with_model("score_paraphrases", "ranking_model"),
    message:
        "Scoring paraphrases of the prompts of {wildcards.kg}"
    script:
        "../scripts/score_paraphrases.py"


rule choose_paraphrases:
    input:
        relations=f"{RESOURCES}/relations.tsv",
        paraphrases=f"{RESOURCES}/paraphrases.tsv",
        candidates=paraphrase_candidates,
        scores=paraphrase_scores,
    output:
        table="results/kg/{kg}/paraphrases.parquet",
        sheet="results/kg/{kg}/suggested_paraphrases.tsv",
    log:
        "results/logs/choose_paraphrases/{kg}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        **paraphrase_settings("relations", "ranking_model"),
        source=graph,
        origin=paraphrase_origin(),
        code=code_of("choose_paraphrases"),
    message:
        "Choosing among paraphrases of the prompts of {wildcards.kg}"
    script:
        "../scripts/choose_paraphrases.py"


rule paraphrase:
    input:
        relations=f"{RESOURCES}/relations.tsv",
        paraphrases=f"{RESOURCES}/paraphrases.tsv",
        generated=generated_paraphrases,
    output:
        "results/kg/{kg}/prompts.parquet",
    log:
        "results/logs/paraphrase/{kg}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        origin=paraphrase_origin(),
        code=code_of("paraphrase"),
    message:
        "Listing the prompts of {wildcards.kg}"
    script:
        "../scripts/paraphrase.py"
