"""Facts, logic rules and prompts from a graph."""

SAMPLED = ("model", "temperature", "seed", "max_tokens")
EFFORT = ("candidates", "requests")
FILTERING = ("max_per_subject", "max_per_tied_fact", "max_keys", "unique_answers", "head_holds", "seed")


# It needs a network and a key, which jobs on a cluster may not have.
localrules:
    ask_paraphrases,


rule make_world:
    input:
        lambda wildcards: resource_path(graph(wildcards)["file"]),
    output:
        "results/kg/{kg}/world.nt.gz",
    log:
        "results/logs/make_world/{kg}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        seed=lambda wildcards: graph(wildcards)["seed"],
        code=code_hash("aftershock.kg.world"),
    message:
        "Generating the world {wildcards.kg}"
    script:
        "../scripts/make_world.py"


rule load_kg:
    input:
        graph_file,
    output:
        directory("results/kg/{kg}/store"),
    log:
        "results/logs/load_kg/{kg}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        code=code_hash("aftershock.kg.store"),
    message:
        "Loading the graph {wildcards.kg}"
    script:
        "../scripts/load_kg.py"


rule load_dump:
    input:
        graph_file,
    output:
        directory("results/kg/{kg}/dump"),
    log:
        "results/logs/load_dump/{kg}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        relations=listed_relations,
        code=code_hash("aftershock.kg.partitions"),
    message:
        "Reading the dump of {wildcards.kg}"
    script:
        "../scripts/load_dump.py"


rule sample_facts:
    input:
        store=graph_store,
        relations=f"{RESOURCES}/relations.tsv",
    output:
        "results/kg/{kg}/sample.parquet",
    log:
        "results/logs/sample_facts/{kg}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        max_facts=config["mining"]["max_facts"],
        seed=config["mining"]["seed"],
        code=code_hash("aftershock.kg.sample", "aftershock.kg.source"),
    message:
        "Reading the facts of {wildcards.kg}"
    script:
        "../scripts/sample_facts.py"


rule mine_rules:
    input:
        sample="results/kg/{kg}/sample.parquet",
        rules=f"{RESOURCES}/rules.tsv",
        relations=f"{RESOURCES}/relations.tsv",
    output:
        rules="results/kg/{kg}/rules.parquet",
        relations="results/kg/{kg}/relations.parquet",
        suggested="results/kg/{kg}/suggested_rules.tsv",
    log:
        "results/logs/mine_rules/{kg}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        thresholds=thresholds(),
        taken=taken_rules,
        code=code_hash("aftershock.kg.rules"),
    message:
        "Mining logic rules in {wildcards.kg}"
    script:
        "../scripts/mine_rules.py"


rule mine_combinations:
    input:
        store=graph_store,
    output:
        "results/kg/{kg}/combinations/{rule_file}.parquet",
    log:
        "results/logs/mine_combinations/{kg}.{rule_file}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        rule=lambda wildcards: rule_of_file(wildcards),
        max_combinations=config["mining"]["max_combinations"],
        head_holds=config["mining"]["head_holds"],
        seed=config["mining"]["seed"],
        code=code_hash("aftershock.kg.combinations", "aftershock.kg.source"),
    message:
        "Finding instances of {wildcards.rule_file} in {wildcards.kg}"
    script:
        "../scripts/mine_combinations.py"


rule mine_objects:
    input:
        store=graph_store,
    output:
        "results/kg/{kg}/objects/{relation}.parquet",
    log:
        "results/logs/mine_objects/{kg}.{relation}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        max_keys=config["mining"]["max_keys"],
        seed=config["mining"]["seed"],
        code=code_hash("aftershock.kg.combinations", "aftershock.kg.source"),
    message:
        "Finding subjects with several objects of {wildcards.relation} in {wildcards.kg}"
    script:
        "../scripts/mine_objects.py"


rule mine_labels:
    input:
        store=graph_store,
        sample="results/kg/{kg}/sample.parquet",
        combinations=combinations,
        objects=one_to_many,
    output:
        "results/kg/{kg}/labels.parquet",
    log:
        "results/logs/mine_labels/{kg}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        code=code_hash("aftershock.kg.labels", "aftershock.kg.source"),
    message:
        "Looking up labels in {wildcards.kg}"
    script:
        "../scripts/mine_labels.py"


rule filter_facts:
    input:
        sample="results/kg/{kg}/sample.parquet",
        rules="results/kg/{kg}/rules.parquet",
        relations="results/kg/{kg}/relations.parquet",
        labels="results/kg/{kg}/labels.parquet",
        combinations=combinations,
        objects=one_to_many,
        words=screened_words,
        screen=f"{RESOURCES}/screen.tsv",
        scores=label_scores,
        living=living,
    output:
        facts="results/kg/{kg}/facts.parquet",
        instances="results/kg/{kg}/instances.parquet",
        objects="results/kg/{kg}/objects.parquet",
        summary="results/kg/{kg}/summary.csv",
        screened="results/kg/{kg}/screened.tsv",
    log:
        "results/logs/filter_facts/{kg}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        **{name: config["mining"][name] for name in FILTERING},
        source=graph,
        rules=taken_rules,
        one_to_many=one_to_many_ids,
        threshold=screen_threshold(),
        code=code_hash("aftershock.kg.filters", "aftershock.kg.labels", "aftershock.kg.summary"),
    message:
        "Filtering the facts of {wildcards.kg}"
    script:
        "../scripts/filter_facts.py"


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
        code=code_hash("aftershock.paraphrases.asking", "aftershock.paraphrases.endpoint"),
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
    params:
        **paraphrase_settings("relations"),
        source=graph,
        model=paraphrase_settings(*SAMPLED),
        effort=paraphrase_settings(*EFFORT),
        engine=config["engine"],
        code=code_hash("aftershock.paraphrases.asking", "aftershock.paraphrases.local", "aftershock.lm.chat"),
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
    params:
        engine=config["engine"],
        facts=config["paraphrases"]["ranking_facts"],
        seed=config["paraphrases"]["seed"],
        code=code_hash("aftershock.lm.wordings"),
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
        code=code_hash("aftershock.paraphrases.ranking"),
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
        code=code_hash("aftershock.kg.sheets"),
    message:
        "Listing the prompts of {wildcards.kg}"
    script:
        "../scripts/paraphrase.py"
