"""Configuration of the rules of tasks: tasks, where their rows are, and their items."""

from aftershock.config.tasks import data_folder, tasks_of_run
from aftershock.tasks.engines import ENGINES
from aftershock.tasks.sources import files_of, parts_of, source_of

TASKS = tasks_of_run(config, Path(PROJECT))
TASK_SOURCES = {
    (name, part): source_of(task, part, data_folder(config, Path(PROJECT)))
    for name, task in TASKS.items()
    for part in parts_of(task)
}
DOWNLOADS = {source.download: source for source in TASK_SOURCES.values() if source.hub}


def tasks_from(source):
    """The names of the tasks whose items are made of a source."""
    return [name for name, task in TASKS.items() if task.source == source]


wildcard_constraints:
    task=any_of(TASKS),
    download=any_of(DOWNLOADS),


def rows_of(part):
    """The files with the rows of a task's part, or the folder that they are downloaded to."""

    def function(wildcards):
        source = TASK_SOURCES.get((wildcards.task, part))
        if source is None:
            return []
        return f"results/tasks/{source.download}" if source.hub else files_of(source)

    return function


def download_source(wildcards):
    """The data set, revision and patterns of files of a download."""
    source = DOWNLOADS[wildcards.download]
    return {"hub": source.hub, "revision": source.revision, "files": list(source.files)}


def task_for(stage):
    """Return the part of a task's file that a stage's result depends on."""

    def function(wildcards):
        return TASKS[wildcards.task].part(stage)

    return function


def code_with_task(rule):
    """The code of a script that works on a task: also that of the function its file names."""

    def function(wildcards):
        task = TASKS[wildcards.task]
        return code_of(rule, *([task.prepare] if task.prepare else []))

    return function


def items_of_task(wildcards):
    """The items of a task; those that ask for the edits of a plan belong to the plan."""
    if TASKS[wildcards.task].source == "edits":
        return f"results/{wildcards.kg}/{wildcards.model}/sequences/{wildcards.plan}/items/{wildcards.task}.parquet"
    return f"results/{wildcards.kg}/tasks/{wildcards.task}/items.parquet"


def unedited_outputs(wildcards):
    """Return the unedited model's answers to a task; to items about the edits of a plan, for that plan."""
    if TASKS[wildcards.task].source == "edits":
        return f"results/{wildcards.kg}/{wildcards.model}/sequences/{wildcards.plan}/tasks/{wildcards.task}/unedited.parquet"
    return f"results/{wildcards.kg}/{wildcards.model}/tasks/{wildcards.task}/unedited.parquet"


def asked_by(wildcards):
    """The engine that asks a task: its own, where it has one, else the run's."""
    return TASKS[wildcards.task].engine or config["abilities"]["engine"]


def environment_of_engines():
    """The file of the environment in which every engine of the run is there."""
    engines = {config["abilities"]["engine"], *(task.engine for task in TASKS.values())}
    return f"../../envs/{'harness' if 'harness' in engines else 'models'}.yaml"


def code_with_engine(rule):
    """The code of a script that asks tasks of a model: also that of the engine."""

    def function(wildcards):
        return code_of(rule, *family_code(wildcards.model), ENGINES[asked_by(wildcards)])

    return function


def judge_settings(wildcards):
    """The judge of generated answers, without what cannot change a verdict."""
    judge = config["abilities"]["judge"] or {}
    return {name: value for name, value in judge.items() if name != "tasks"}


def judged_tasks(plan):
    """The tasks of a plan whose answers are judged; none without a judge."""
    judge = config["abilities"]["judge"]
    return [
        task
        for task in plan_tasks(plan)
        if judge and task in judge["tasks"] and TASKS[task].kind == "generate"
    ]


def judged_of_run():
    """The verdicts of the judge on the tasks that it is given, those of each sequence together."""
    return [
        f"results/{KG}/{each['model']}/sequences/{each['plan']}/{each['editor']}/o{each['order']}/judged/{task}/{group}.parquet"
        for each in SEQUENCES
        for task in judged_tasks(each["plan"])
        for group in checkpoint_groups(each["plan"])
    ]
