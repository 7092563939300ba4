"""Benchmark tasks: their files, and the items that models are asked."""


include: "common/tasks.smk"


# What fetches needs a network, which jobs on a cluster may not have; the rest is light. Items come first: what is
# wrong with them is said before hours of editing.
localrules:
    fetch_task_data,
    prepare_task,
    prepare_task_of_edits,
    prepare_task_of_world,
    judge_task,


rule fetch_task_data:
    output:
        directory("results/tasks/{download}"),
    log:
        "results/logs/fetch_task_data/{download}.log",
    priority: 1
    conda:
        "../../envs/models.yaml"
    params:
        source=download_source,
        code=code_of("fetch_task_data"),
    message:
        "Fetching {wildcards.download}"
    script:
        "../scripts/fetch_task_data.py"


rule prepare_task:
    input:
        rows=rows_of("items"),
        examples=rows_of("examples"),
    output:
        "results/{kg}/tasks/{task}/items.parquet",
    log:
        "results/logs/prepare_task/{kg}.{task}.log",
    wildcard_constraints:
        task=any_of(tasks_from("files")),
    priority: 1
    conda:
        "../../envs/tables.yaml"
    params:
        task=task_for("prepare"),
        number=config["abilities"]["items"],
        seed=config["abilities"]["seed"],
        code=code_with_task("prepare_task"),
    message:
        "Preparing the items of {wildcards.task}"
    script:
        "../scripts/prepare_task.py"


rule prepare_task_of_edits:
    input:
        edits="results/{kg}/{model}/sequences/{plan}/edits.parquet",
    output:
        "results/{kg}/{model}/sequences/{plan}/items/{task}.parquet",
    log:
        "results/logs/prepare_task_of_edits/{kg}.{model}.{plan}.{task}.log",
    wildcard_constraints:
        task=any_of(tasks_from("edits")),
    conda:
        "../../envs/tables.yaml"
    params:
        task=task_for("prepare"),
        seed=config["abilities"]["seed"],
        code=code_with_task("prepare_task_of_edits"),
    message:
        "Preparing the items of {wildcards.task} for {wildcards.plan}"
    script:
        "../scripts/prepare_task_of_edits.py"


rule prepare_task_of_world:
    input:
        facts="results/kg/{kg}/facts.parquet",
        rules="results/kg/{kg}/rules.parquet",
        prompts="results/kg/{kg}/prompts.parquet",
        relations=f"{RESOURCES}/relations.tsv",
    output:
        "results/{kg}/tasks/{task}/items.parquet",
    log:
        "results/logs/prepare_task_of_world/{kg}.{task}.log",
    wildcard_constraints:
        kg=any_of(MINED),
        task=any_of(tasks_from("world")),
    conda:
        "../../envs/tables.yaml"
    params:
        task=task_for("prepare"),
        namespace=lambda wildcards: graph(wildcards)["namespace"],
        number=config["abilities"]["items"],
        seed=config["abilities"]["seed"],
        code=code_with_task("prepare_task_of_world"),
    message:
        "Making the items of {wildcards.task} from {wildcards.kg}"
    script:
        "../scripts/prepare_task_of_world.py"


rule run_task_unedited:
    input:
        weights="results/models/{model}/weights",
        asked="results/{kg}/tasks/{task}/items.parquet",
    output:
        "results/{kg}/{model}/tasks/{task}/unedited.parquet",
    log:
        "results/logs/run_task_unedited/{kg}.{model}.{task}.log",
    conda:
        environment_of_engines()
    resources:
        **gpu_job("run_task_unedited"),
    params:
        engine=engine,
        task=task_for("run"),
        asked_by=asked_by,
        code=code_with_engine("run_task_unedited"),
    message:
        "Asking {wildcards.task} of the unedited {wildcards.model}"
    script:
        "../scripts/run_task_unedited.py"


# Items that ask for a plan's own edits.
use rule run_task_unedited as run_task_of_edits_unedited with:
    input:
        weights="results/models/{model}/weights",
        asked="results/{kg}/{model}/sequences/{plan}/items/{task}.parquet",
    output:
        "results/{kg}/{model}/sequences/{plan}/tasks/{task}/unedited.parquet",
    log:
        "results/logs/run_task_of_edits_unedited/{kg}.{model}.{plan}.{task}.log",


rule run_task:
    input:
        weights="results/models/{model}/weights",
        asked=items_of_task,
        edit_log="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/log",
        referred=files_of_states,
    output:
        "results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/tasks/{task}/{checkpoints}.parquet",
    log:
        "results/logs/run_task/{kg}.{model}.{plan}.{editor}.o{order}.{task}.{checkpoints}.log",
    conda:
        environment_of_engines()
    resources:
        **gpu_job("run_task"),
    params:
        engine=engine,
        task=task_for("run"),
        asked_by=asked_by,
        referred=loaders_of_states,
        checkpoints=lambda wildcards: PLANNED[wildcards.plan].checkpoints_of(wildcards.checkpoints),
        code=code_with_engine("run_task"),
    message:
        "Asking {wildcards.task} after edits {wildcards.checkpoints} of {wildcards.model} with {wildcards.editor}: {wildcards.plan}, order {wildcards.order}"
    script:
        "../scripts/run_task.py"


rule judge_task:
    input:
        asked=items_of_task,
        outputs="results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/tasks/{task}/{checkpoints}.parquet",
    output:
        "results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/judged/{task}/{checkpoints}.parquet",
    log:
        "results/logs/judge_task/{kg}.{model}.{plan}.{editor}.o{order}.{task}.{checkpoints}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        judge=judge_settings,
        code=code_of("judge_task"),
    message:
        "Judging {wildcards.task} after edits {wildcards.checkpoints} of {wildcards.model} with {wildcards.editor}"
    script:
        "../scripts/judge_task.py"
