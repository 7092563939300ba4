"""Benchmark tasks: their files, and the items that models are asked."""


include: "common/tasks.smk"


# What fetches needs a network, which jobs on a cluster may not have; the rest is light. Items come first: what is
# wrong with them is said before hours of editing.
localrules:
    fetch_task_data,
    prepare_task,
    prepare_task_of_edits,


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
