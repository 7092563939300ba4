"""Configuration of the rules of sequences: plans, their editors, and where edits are from."""

from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of
from aftershock.config.shards import ranges_among
from aftershock.datasets.table import BEFORE, PLACES
from aftershock.experiments.sequences.plan import Plan

PLANS = plans_of(config)
PLANNED = {name: Plan.from_config(plan) for name, plan in PLANS.items()}

SEQUENCES = [
    {"model": name, "plan": plan, "editor": editor, "order": order}
    for plan in PLANS
    for name in models_of_plan(config, PLANS[plan])
    for editor in editors_of_plan(config, PLANS[plan])
    for order in PLANNED[plan].orders
]
"""Every sequence of edits of the run."""


wildcard_constraints:
    plan=any_of(PLANS),
    order=r"\d+",
    place=any_of(PLACES),
    checkpoints=r"\d{5}-\d{5}",


def sequences_of_run():
    """Return the results that the plans of this run lead to."""
    folder = "results/{kg}/{model}/sequences/{plan}"
    unedited = [
        f"results/{KG}/{name}/sequences/{plan}/unedited.parquet"
        for plan in PLANS
        for name in models_of_plan(config, PLANS[plan])
    ]
    return unedited + [
        f"{folder}/{{editor}}/o{{order}}/edits/{{group}}.parquet".format(kg=KG, group=group, **sequence)
        for sequence in SEQUENCES
        for group in checkpoint_groups(sequence["plan"])
    ]


def checkpoint_groups(plan):
    """The names of the groups of checkpoints of a plan, each evaluated by one job."""
    return PLANNED[plan].groups(config["abilities"]["checkpoints_per_job"])


def source_of_edits(wildcards):
    """Return a plan's settings of its edits, without the place of their file."""
    return {name: value for name, value in PLANS[wildcards.plan]["edits"].items() if name != "file"}


def file_of_edits(wildcards):
    """The file that a plan's edits are read from; none where they are not from one."""
    path = PLANS[wildcards.plan]["edits"].get("file")
    return resource_path(path) if path else []


def prompts_beside(wildcards):
    """Published paraphrases, where they lie beside a file of published cases."""
    path = file_of_edits(wildcards)
    if not path or PLANS[wildcards.plan]["edits"]["source"] != "conflict_edit":
        return []
    beside = (Path(path).with_name(name) for name in PROMPT_FILES.values())
    return [str(prompts) for prompts in beside if prompts.exists()]


def when_from_graph(pattern):
    """A file that edits from the graph are made of; none for other sources."""

    def function(wildcards):
        return pattern.format(**wildcards) if PLANS[wildcards.plan]["edits"]["source"] == "graph" else []

    return function


def taught_to_edit(wildcards):
    """Return the facts that the model was taught, when edits are made of the graph."""
    return taught(wildcards) if PLANS[wildcards.plan]["edits"]["source"] == "graph" else []


def source_cases(kind):
    """A table of the dataset whose first edits a plan makes; none for other sources."""

    def function(wildcards):
        dataset = PLANS[wildcards.plan]["edits"].get("dataset")
        return f"results/{wildcards.kg}/{wildcards.model}/cases/{dataset}{kind}.parquet" if dataset else []

    return function


def prompts_of_edits(wildcards):
    """The prompts that edits of a graph or of cases are asked with; files have their own."""
    edits = PLANS[wildcards.plan]["edits"]
    if "file" in edits:
        return []
    return prompts_of(wildcards, "round" if edits.get("dataset") in ROUND else "conflict")


def cases_among(kind):
    """A table of each dataset whose cases are measured among a plan's edits."""

    def function(wildcards):
        among = PLANS[wildcards.plan]["cases"]
        folder = f"results/{wildcards.kg}/{wildcards.model}/cases"
        return [f"{folder}/{dataset}{kind}.parquet" for dataset in (among["datasets"] if among else ())]

    return function


def quota_among(wildcards):
    """The test cases of a dataset that are measured among a plan's edits."""
    among = PLANS[wildcards.plan]["cases"]
    return among["quota"] if among else 0


def places_among(plan):
    """Return the places of unrelated edits around cases: before, between, after."""
    return [place for place in PLACES if PLANS[plan]["cases"][place]]


def log_before(wildcards):
    """The log that cases start from, where edits come before theirs."""
    folder = "results/{kg}/{model}/sequences/{plan}/{editor}/o{order}/log".format(**wildcards)
    return folder if wildcards.place == BEFORE else []


# --- editing and probing ----------------------------------------------------------------------------------

REFERRED = ("scope_models", "sentence_encoder")
"""Artifacts that changes of a model refer to."""


def plan_values(wildcards):
    """The plan, but for the orders that it is run in."""
    plan = PLANNED[wildcards.plan]
    return {"mode": plan.mode, "batch": plan.batch, "checkpoints": list(plan.checkpoints)}


def draws_own_edits(name, wildcards):
    """True if an editor draws other edits from the plan's own ones, since there is no dataset."""
    return name == "other_edits" and wildcards.kg not in [*MINED, *RELEASED]


def artifacts_of_sequence(wildcards):
    """Return the files that an editor needs made first, in the order of the artifacts' names."""
    own = f"results/{wildcards.kg}/{wildcards.model}/sequences/{wildcards.plan}/edits.parquet"
    needed = artifacts_for(wildcards.editor, wildcards.model)
    return [own if draws_own_edits(name, wildcards) else artifact_file(name, wildcards) for name in needed]


def loaders_of_sequence(wildcards):
    """The functions that load these artifacts, by name."""
    own = "aftershock.experiments.sequences.run:load_edits"
    return {
        name: own if draws_own_edits(name, wildcards) else ARTIFACTS[name].load
        for name in artifacts_for(wildcards.editor, wildcards.model)
    }


def artifacts_of_states(wildcards):
    """The artifacts that changes of an editor refer to, and that have to be loaded before a log is read."""
    return [name for name in artifacts_for(wildcards.editor, wildcards.model) if name in REFERRED]


def files_of_states(wildcards):
    """The files of these artifacts."""
    return [artifact_file(name, wildcards) for name in artifacts_of_states(wildcards)]


def loaders_of_states(wildcards):
    """The functions that load these artifacts, by name."""
    return {name: ARTIFACTS[name].load for name in artifacts_of_states(wildcards)}
