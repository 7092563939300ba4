"""Edits and what a model says before and after them."""


include: "common/edit.smk"


localrules:
    score,


rule baseline:
    input:
        weights="results/models/{model}/weights",
        cases="results/{kg}/{model}/cases/{dataset}.parquet",
        probes="results/{kg}/{model}/cases/{dataset}.probes.parquet",
        prompts=prompts,
    output:
        "results/{kg}/{model}/{dataset}/unedited.parquet",
    log:
        "results/logs/baseline/{kg}.{model}.{dataset}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("baseline"),
    params:
        engine=engine,
        continuations=config["continuations"],
        code=code_with_model("baseline"),
    message:
        "Scoring {wildcards.dataset} in the unedited {wildcards.model}"
    script:
        "../scripts/baseline.py"


rule train_mend:
    input:
        weights="results/models/{model}/weights",
        edits=file_of_training(),
        facts=of_training_graph("results/kg/{kg}/facts.parquet"),
        rules=of_training_graph("results/kg/{kg}/rules.parquet"),
        instances=of_training_graph("results/kg/{kg}/instances.parquet"),
        split=of_training_graph("results/kg/{kg}/split.parquet"),
        taught=taught_in_training,
        prompts=of_training_graph("results/kg/{kg}/prompts.parquet"),
        objects=of_training_graph("results/{kg}/{model}/objects.parquet"),
        locality=locality_file,
    output:
        hypernetwork="results/{kg}/{model}/mend/{kind}/hypernetwork.safetensors",
        curve="results/{kg}/{model}/mend/{kind}/curve.parquet",
    log:
        "results/logs/train_mend/{kg}.{model}.{kind}.log",
    wildcard_constraints:
        kg=any_of(graphs_to_train_on()),
    priority: 1  # all edits of this method wait for it
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("train_mend"),
    params:
        engine=engine,
        layers=mend_layers,
        settings=mend_settings,
        source=source_of_training(),
        cases_seed=config["cases"]["seed"],
        seed=config["mend"]["seed"],
        code=code_with_model("train_mend"),
    message:
        "Training MEND's hypernetwork of {wildcards.model} on {wildcards.kg} ({wildcards.kind})"
    script:
        "../scripts/train_mend.py"


rule train_serac:
    input:
        weights="results/models/{model}/weights",
        edits=file_of_training(),
        facts=of_training_graph("results/kg/{kg}/facts.parquet"),
        rules=of_training_graph("results/kg/{kg}/rules.parquet"),
        instances=of_training_graph("results/kg/{kg}/instances.parquet"),
        split=of_training_graph("results/kg/{kg}/split.parquet"),
        taught=taught_in_training,
        prompts=of_training_graph("results/kg/{kg}/prompts.parquet"),
        objects=of_training_graph("results/{kg}/{model}/objects.parquet"),
        locality=locality_file,
    output:
        models="results/{kg}/{model}/serac/scope_models.safetensors",
        curve="results/{kg}/{model}/serac/curve.parquet",
    log:
        "results/logs/train_serac/{kg}.{model}.log",
    wildcard_constraints:
        kg=any_of(graphs_to_train_on()),
    priority: 1  # all edits of this method wait for it
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("train_serac"),
    params:
        engine=engine,
        settings=serac_settings,
        source=source_of_training(),
        cases_seed=config["cases"]["seed"],
        seed=config["serac"]["seed"],
        code=code_with_model("train_serac"),
    message:
        "Training SERAC's scope classifier and counterfactual model of {wildcards.model} on {wildcards.kg}"
    script:
        "../scripts/train_serac.py"


rule tune:
    input:
        weights="results/models/{model}/weights",
        cases="results/{kg}/{model}/cases/coverage.parquet",
        edits="results/{kg}/{model}/cases/coverage.edits.parquet",
        probes="results/{kg}/{model}/cases/coverage.probes.parquet",
        prompts=prompts_for_facts,
        artifacts=artifact_files,
    output:
        "results/{kg}/{model}/tune/{editor}.parquet",
    log:
        "results/logs/tune/{kg}.{model}.{editor}.log",
    priority: 1  # all edits with these settings wait for it
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("tune"),
    params:
        engine=engine,
        editor=editor_settings,
        search=search_space,
        trials=config["tuning"]["trials"],
        cases=config["tuning"]["cases"],
        seed=config["tuning"]["seed"],
        code=code_with_editor("tune"),
    message:
        "Tuning {wildcards.editor} on {wildcards.model}"
    script:
        "../scripts/tune.py"


rule edit:
    input:
        weights="results/models/{model}/weights",
        cases="results/{kg}/{model}/cases/{dataset}.parquet",
        edits="results/{kg}/{model}/cases/{dataset}.edits.parquet",
        probes="results/{kg}/{model}/cases/{dataset}.probes.parquet",
        prompts=prompts,
        artifacts=artifact_files,
        trials=trials,
    output:
        observations="results/{kg}/{model}/{dataset}/{editor}/s{seed}/observations/{shard}.parquet",
        telemetry="results/{kg}/{model}/{dataset}/{editor}/s{seed}/telemetry/{shard}.parquet",
        health="results/{kg}/{model}/{dataset}/{editor}/s{seed}/health/{shard}.parquet",
    log:
        "results/logs/edit/{kg}.{model}.{dataset}.{editor}.s{seed}.{shard}.log",
    conda:
        "../../envs/models.yaml"
    resources:
        **gpu_job("edit"),
    params:
        engine=engine,
        editor=editor_settings,
        continuations=config["continuations"],
        health=config["health"]["every"],
        states=lambda wildcards: states_as_values(wildcards.dataset),
        seed=lambda wildcards: int(wildcards.seed),
        code=code_with_editor("edit"),
    message:
        "Editing {wildcards.model} with {wildcards.editor}: {wildcards.dataset} {wildcards.shard}, seed {wildcards.seed}"
    script:
        "../scripts/edit.py"


rule score:
    input:
        cases="results/{kg}/{model}/cases/{dataset}.parquet",
        edits="results/{kg}/{model}/cases/{dataset}.edits.parquet",
        probes="results/{kg}/{model}/cases/{dataset}.probes.parquet",
        facts=graph_facts,
        objects="results/{kg}/{model}/objects.parquet",
        unedited="results/{kg}/{model}/{dataset}/unedited.parquet",
        observations=lambda wildcards: scored_files(wildcards, "observations"),
        telemetry=lambda wildcards: scored_files(wildcards, "telemetry"),
        health=lambda wildcards: scored_files(wildcards, "health"),
    output:
        scores="results/{kg}/{model}/{dataset}/{editor}/s{seed}/scores.parquet",
        probabilities="results/{kg}/{model}/{dataset}/{editor}/s{seed}/probabilities.parquet",
        variants="results/{kg}/{model}/{dataset}/{editor}/s{seed}/variants.parquet",
        facets="results/{kg}/{model}/{dataset}/{editor}/s{seed}/facets.parquet",
        holes="results/{kg}/{model}/{dataset}/{editor}/s{seed}/holes.parquet",
        health="results/{kg}/{model}/{dataset}/{editor}/s{seed}/health.parquet",
    log:
        "results/logs/score/{kg}.{model}.{dataset}.{editor}.s{seed}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        ranges=shards,
        second_edit=lambda wildcards: EDITOR_LABELS[wildcards.editor].get("second_edit", "plain"),
        labels=lambda wildcards: EDITOR_LABELS[wildcards.editor].get("labels", "all"),
        ignore_margin=config["report"]["ignore_margin"],
        incomplete=config["report"]["incomplete"],
        code=code_of("score"),
    message:
        "Scoring {wildcards.editor} on {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/score.py"
