"""Shared by several phases: what the configuration selects, wildcard constraints, and input functions."""

import os
import re
from functools import cache
from pathlib import Path

from aftershock.datasets.table import DATASETS, ROUND, SPLITS, states_as_values
from aftershock.datasets.released import FILES, PROMPT_FILES
from aftershock.provenance.code_hash import code_hash
from aftershock.config import check_config, check_fetched, merged_settings
from aftershock.config.models import model_type_of, reading_of
from aftershock.config.settings import artifact_layers, hypernetwork_kind, moment_layers, needed_artifacts
from aftershock.config.shards import number_of_cases, shard_ranges
from aftershock.config.used import editors_of_dataset
from aftershock.editors.artifacts import ARTIFACTS, with_sources
from aftershock.editors.methods import method_of
from aftershock.editors.regularisers import code_of_entries, merged_entries
from aftershock.lm.families import list_families
from aftershock.jobs.folder import PreflightError, check_names
from aftershock.jobs.patches import patch_snakemake
from aftershock.budget.needs import shard_sizes
from aftershock.kg.sheets import kept_rules, one_to_many_relations
from aftershock.offline import go_offline
from aftershock.process import name_run
from aftershock.text_files import read_yaml
from snakemake.exceptions import WorkflowError

try:
    check_names(workflow.basedir, os.getcwd())
except PreflightError as error:
    raise WorkflowError(str(error)) from None

name_run()  # so that no job outlives this run
# a job on another machine is a run of its own
patch_snakemake(workflow if workflow.is_main_process else None)
go_offline()  # so that no job asks a network for what it lacks

PROJECT = os.path.relpath(workflow.basedir)  # a folder that is moved with its results stays up to date
RESOURCES = os.path.normpath(f"{PROJECT}/resources")

try:
    for file in workflow.configfiles:
        read_yaml(file)  # which names keys that stand twice; Snakemake drops the first
    MODELS = check_config(config, workflow.basedir)
    check_fetched(config, MODELS)
except ValueError as error:
    raise WorkflowError(str(error)) from None

KG = config["kg"]
EDITOR_LABELS = {label: editor for label, editor in config["editors"].items() if editor}
STUDY = config["study"] or "default"
REPORT = f"results/report/{config['study']}" if config["study"] else "results/report"
RELEASED = [name for name, kg in config["kgs"].items() if kg["source"] == "released"]
MINED = [name for name, kg in config["kgs"].items() if kg["source"] not in ("released", "none")]
TRAINED = [name for name, model in MODELS.items() if "train" in model]
FETCHED = [name for name in MODELS if name not in TRAINED]


SHARDS = shard_sizes(config, MODELS)


include: "common/resources.smk"


def any_of(names):
    """A pattern that matches one of `names` and nothing else."""
    return "|".join(re.escape(name) for name in sorted(names)) or "(?!)"


wildcard_constraints:
    kg=any_of(config["kgs"]),
    model=any_of(MODELS),
    dataset=any_of(DATASETS),
    editor=any_of(EDITOR_LABELS),
    backend="openai|local",
    kind="all|conflict|round",
    split="|".join(SPLITS),
    seed=r"\d+",
    shard=r"\d{5}-\d{5}",


# --- graphs -----------------------------------------------------------------------------------------------


def resource_path(path):
    """A path of the configuration: relative to the working directory, else to the project."""
    return path if Path(path).exists() else os.path.normpath(f"{PROJECT}/{path}")


def graph(wildcards):
    """The configuration of the graph."""
    return config["kgs"][wildcards.kg]


def graph_store(wildcards):
    """The store that a mining job serves, or the tables of a dump; an endpoint elsewhere needs none."""
    source = graph(wildcards)["source"]
    folder = "dump" if source == "dump" else "store"
    return [] if source == "endpoint" else f"results/kg/{wildcards.kg}/{folder}"


def rule_file(rule):
    """A logic rule as part of a file name."""
    return rule.replace("&", "-").replace(">", "-")


def taken_rules(wildcards):
    """The logic rules that resources/rules.tsv keeps and this run takes."""
    mining = config["mining"]
    return kept_rules(RESOURCES, graph(wildcards)["namespace"], mining["rules"], mining["functional_heads"])


def combinations(wildcards):
    """One file per logic rule that is taken."""
    rules = taken_rules(wildcards)
    return [f"results/kg/{wildcards.kg}/combinations/{rule_file(rule)}.parquet" for rule in rules]


def one_to_many_ids(wildcards):
    """The relations whose subjects with several objects are looked for."""
    return one_to_many_relations(RESOURCES, graph(wildcards)["namespace"])


def one_to_many(wildcards):
    """One file per relation with several objects."""
    relations = one_to_many_ids(wildcards)
    return [f"results/kg/{wildcards.kg}/objects/{relation}.parquet" for relation in relations]


def released_folder(wildcards):
    """The folder of published files."""
    return graph(wildcards)["folder"]


def released_files(wildcards):
    """The published files that this run reads."""
    folder = Path(released_folder(wildcards))
    return [folder / name for name in (*(FILES[d] for d in config["datasets"]), *PROMPT_FILES.values())]


def prompts_of(wildcards, kind):
    """The prompts of a graph; published files have a set for conflict and one for round datasets."""
    name = f"prompts.{kind}" if wildcards.kg in RELEASED else "prompts"
    return f"results/kg/{wildcards.kg}/{name}.parquet"


def prompts(wildcards):
    """The prompts of a dataset."""
    return prompts_of(wildcards, "round" if wildcards.dataset in ROUND else "conflict")


def prompts_for_facts(wildcards):
    """The prompts of the facts behind conflict cases."""
    return prompts_of(wildcards, "conflict")


def prompts_for_objects(wildcards):
    """The prompts of one-to-many facts."""
    return prompts_of(wildcards, "round")


# --- models -----------------------------------------------------------------------------------------------


def model(wildcards):
    """The contents of resources/models/{model}.yaml."""
    return MODELS[wildcards.model]


def engine_of(name):
    """The options that a model is computed with, and those of reading texts."""
    return config["engine"] | reading_of(MODELS.get(name, {}))


def engine(wildcards):
    """The options that the model of a job is computed with."""
    return engine_of(wildcards.model)


def taught(wildcards):
    """Return the facts that a model trained on this very graph was taught; nothing for other models."""
    if model(wildcards).get("kg") == wildcards.kg:
        return f"results/models/{wildcards.model}/taught.parquet"
    return []


# --- cases and editors ------------------------------------------------------------------------------------


def shards(wildcards):
    """Ranges of test cases, each a job; no range cuts a block of 32 cases."""
    return shard_ranges(
        number_of_cases(config, wildcards.dataset),
        SHARDS[wildcards.model, wildcards.dataset, wildcards.editor],
    )


def editors_of(dataset):
    """The editors that `dataset` is made for: multi-label editing needs several true objects."""
    return editors_of_dataset(config, dataset)


def tuned_label(wildcards):
    """The editor whose trials choose the settings."""
    return EDITOR_LABELS[wildcards.editor].get("tuned_as", wildcards.editor)


def trials(wildcards):
    """The trials of an editor, when there is something to choose from."""
    label = tuned_label(wildcards)
    searched = model(wildcards).get("search", {}).get(method_of(EDITOR_LABELS[label]["method"]).name)
    if config["tuning"]["trials"] > 1 and searched and wildcards.kg in MINED:
        return f"results/{wildcards.kg}/{wildcards.model}/tune/{label}.parquet"
    return []


def artifact_file(name, wildcards):
    """The file of an artifact of `editors/artifacts.py`; tuning works on coverage."""
    mend, dataset = config["mend"], getattr(wildcards, "dataset", "coverage")
    path = ARTIFACTS[name].path.format(
        kg=wildcards.kg,
        model=wildcards.model,
        dataset=dataset,
        trained_on=mend["kg"] or wildcards.kg,
        kind=hypernetwork_kind(config, dataset),
    )
    return f"results/{path}"


@cache
def artifacts_for(label, name):
    """The artifacts that an editor needs for the model `name`; thousands of jobs ask."""
    return needed_artifacts(EDITOR_LABELS[label], MODELS[name])


def artifact_files(wildcards):
    """Return the files that an editor needs made first, in the order of the artifacts' names."""
    needed = artifacts_for(wildcards.editor, wildcards.model)
    return [artifact_file(name, wildcards) for name in needed]


@cache
def settings_for(label, name):
    """Method, regularisers, artifacts, settings and second edit of an editor for a model; thousands of jobs ask."""
    editor = EDITOR_LABELS[label]
    regularisers = merged_entries(editor.get("regularisers", ()))
    return {
        "method": editor["method"],
        **({"regularisers": regularisers} if regularisers else {}),
        "artifacts": {artifact: ARTIFACTS[artifact].load for artifact in artifacts_for(label, name)},
        "second_edit": editor.get("second_edit", "plain"),
        "labels": editor.get("labels", "all"),
        "settings": merged_settings(editor, MODELS[name]),
    }


def editor_settings(wildcards):
    """Method, regularisers, artifacts, settings and second edit of an editor for one model."""
    return settings_for(wildcards.editor, wildcards.model)


# --- code -------------------------------------------------------------------------------------------------


@cache
def code_of(rule, *named):
    """A hash of what a script needs, and of code that is named in data."""
    return code_hash(f"{PROJECT}/workflow/scripts/{rule}.py", *named)


@cache
def family_code(name):
    """The module with the family of a model, as its file names it or its folder says; of an unknown one, all."""
    family = model_type_of(MODELS[name])
    return [f"aftershock.lm.families.{each}" for each in ([family] if family else list_families())]


def code_with_model(rule, key="model"):
    """The code of a script that runs a model, which its wildcards or `paraphrases` in config.yaml name."""

    def function(wildcards):
        name = getattr(wildcards, key, None) or config["paraphrases"][key]
        return code_of(rule, *family_code(name))

    return function


def code_with_editor(rule):
    """The code of a script that runs an editor: also its method's, its regularisers', what loads artifacts."""

    def function(wildcards):
        method = method_of(EDITOR_LABELS[wildcards.editor]["method"])
        loaders = [ARTIFACTS[name].load for name in artifacts_for(wildcards.editor, wildcards.model)]
        named = [
            *method.code,
            *code_of_entries(EDITOR_LABELS[wildcards.editor].get("regularisers", ())),
            *loaders,
        ]
        return code_of(rule, *family_code(wildcards.model), *named)

    return function
