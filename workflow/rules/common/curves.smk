"""Configuration of the rules of curves: the tasks of a plan, and the files of its checkpoints."""

from types import SimpleNamespace

from aftershock.config.sequences import tasks_of_plan
from aftershock.tasks.definition import chosen_tasks


def plan_tasks(plan):
    """The names of the tasks that a plan measures."""
    return chosen_tasks(tasks_of_plan(config, PLANS[plan]), Path(PROJECT) / "resources" / "tasks")


def scored_tasks(wildcards):
    """Return the parts of the files of a plan's tasks that scores depend on, by name; no titles and notes."""
    return {name: TASKS[name].part("score") | about_task(name) for name in plan_tasks(wildcards.plan)}


def about_task(name):
    """Return what analyses ask of a task, by the names of its file's keys."""
    wanted = ("kind", "metrics", "source", "chance", "two_way", "safety", "protocol", "shots", "chat")
    wanted += ("benchmark", "title")
    return {key: getattr(TASKS[name], key) for key in wanted}


def of_tasks(wildcards, file):
    """A file of every task of a plan."""
    asked = [SimpleNamespace(**wildcards, task=name) for name in plan_tasks(wildcards.plan)]
    return [file(each) for each in asked]


def items_of_tasks(wildcards):
    """The items of every task of a plan."""
    return of_tasks(wildcards, items_of_task)


def unedited_of_tasks(wildcards):
    """Return the unedited model's answers to every task of a plan."""
    return of_tasks(wildcards, unedited_outputs)


def sequence_folder(wildcards):
    """The folder of one order of a plan."""
    return "results/{kg}/{model}/sequences/{plan}/{editor}/o{order}".format(**wildcards)


def outputs_of_tasks(wildcards):
    """Return the answers to every task at the checkpoints of a plan: all groups of a task, then the next one's."""
    folder, groups = sequence_folder(wildcards), checkpoint_groups(wildcards.plan)
    return [
        f"{folder}/tasks/{task}/{group}.parquet" for task in plan_tasks(wildcards.plan) for group in groups
    ]


def observations_of_sequence(wildcards):
    """Return the answers to the prompts of the edits at the checkpoints of a plan."""
    return [
        f"{sequence_folder(wildcards)}/edits/{group}.parquet" for group in checkpoint_groups(wildcards.plan)
    ]


def of_cases_among(kind):
    """The files of all places and shards of a dataset's cases among a plan's edits."""

    def function(wildcards):
        folder = f"{sequence_folder(wildcards)}/cases/{wildcards.dataset}/{kind}"
        ranges = ranges_among(config, PLANS[wildcards.plan], wildcards.dataset)
        return [
            f"{folder}{place}/{shard}.parquet" for place in places_among(wildcards.plan) for shard in ranges
        ]

    return function


def datasets_among(plan):
    """The datasets whose cases are measured among a plan's edits."""
    return PLANS[plan]["cases"]["datasets"] if PLANS[plan]["cases"] else []


def scores_among():
    """The scores of cases of every sequence, a dataset after the other."""
    return [
        f"results/{KG}/{s['model']}/sequences/{s['plan']}/{s['editor']}/o{s['order']}/scored/cases.{dataset}.parquet"
        for s in SEQUENCES
        for dataset in datasets_among(s["plan"])
    ]


def of_sequences(file):
    """A file of every sequence of edits of the run."""
    return [
        f"results/{KG}/{s['model']}/sequences/{s['plan']}/{s['editor']}/o{s['order']}/{file}"
        for s in SEQUENCES
    ]


def of_sequences_with_tasks(file):
    """A file of every sequence, none where no task is measured along any."""
    return of_sequences(file) if any(plan_tasks(plan) for plan in PLANS) else []


def sequence_circumstances():
    """Return what tables and pages of sequences have to know about this run; see paper/ability_tables.py."""
    names = list(dict.fromkeys(name for plan in PLANS for name in plan_tasks(plan)))
    return {
        "runs": SEQUENCES,
        "tasks": [{"name": name, **about_task(name)} for name in names],
        "hubs": {name: MODELS[name].get("source", {}).get("hub") for name in config["models"]},
        "editors": EDITOR_LABELS,
        "plans": {
            name: {key: plan[key] for key in ("edits", "mode", "batch", "checkpoints")}
            for name, plan in PLANS.items()
        },
        "cases": {name: datasets_among(name) for name in PLANS},
        "switches": config["abilities"]["switches"],
        "judged": {
            name: [task for task in judged_tasks(name) for _ in checkpoint_groups(name)] for name in PLANS
        },
    }
