"""The jobs of a run that need a GPU, in the order in which they wait for each other.

Said from the configuration alone, so that a study can be planned before its files are there; a test holds it
against what Snakemake would run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from aftershock.budget.schedule import Job
from aftershock.budget.sequence_jobs import sequence_jobs
from aftershock.budget.sharding import compared_shards, number_of_cases, shard_ranges, shard_sizes
from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of
from aftershock.config.settings import (
    artifact_layers,
    is_gathered,
    is_published,
    moment_layers,
    needed_artifacts,
)
from aftershock.config.used import editors_of_dataset
from aftershock.datasets.table import find_dataset
from aftershock.editors.methods import method_of

LIKE = "coverage"
"""The dataset whose artifacts and tuned settings edits of plans take."""


def gpu_jobs(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> list[Job]:
    """All jobs of a run that need a GPU."""
    sizes = shard_sizes(config, models)
    return [job for model in config["models"] for job in _of_model(config, models[model], model, sizes)]


def _of_model(
    config: Mapping[str, Any], contents: Mapping[str, Any], model: str, sizes: Mapping[tuple, int]
) -> Iterator[Job]:
    of_model, editors = {"model": model}, {label: each for label, each in config["editors"].items() if each}
    here = {"kg": config["kg"], **of_model}
    weights, asked, moments = f"{model} weights", f"{model} answers", f"{model} moments"
    if "train" in contents:
        yield Job("train_lm", of_model, weights)
    text = (f"{model} text",) if is_gathered(contents) else ()
    if moment_layers(editors, contents):
        if text:
            yield Job("gather_text", of_model, *text, (weights,))
        if not is_published(contents):
            yield Job("moments", of_model, moments, (weights, *text))
    if artifact_layers("attention_moments", editors, contents):
        yield Job("attention_moments", of_model, f"{model} attention_moments", (weights, *text))
    if artifact_layers("null_space", editors, contents):
        yield Job("null_space", of_model, f"{model} null_space", (moments,))
    needed = [(name, needed_artifacts(editors[label], contents)) for name, label in _runs(config, model)]
    trained = {hypernetwork_kind(config, name) for name, needs in needed if "hypernetwork" in needs}
    cached = any("scope_models" in needs for _, needs in needed)
    other = {**here, "kg": config["mend"]["kg"] or here["kg"]}
    of_graph = bool(trained or cached) and not config["mend"]["edits"]
    yield from _questions(config, here, asked, weights, _kinds(config, of_graph and other == here))
    if of_graph and other != here:
        yield from _questions(config, other, asked, weights, ("objects",))
    read = (weights,) if config["mend"]["edits"] else (weights, asked)
    for kind in sorted(trained):
        yield Job("train_mend", {**other, "kind": kind}, f"{model} hypernetwork {kind}", read)
    if cached:
        yield Job("train_serac", other, f"{model} scope_models", read)
    for label in tuned(config, contents):
        needs = _after(config, model, contents, label, LIKE)
        yield Job("tune", {**here, "editor": label}, f"{model} tune {label}", (asked, *needs))
    strict = config["engine"]["precision"] == "strict"
    for dataset in config["datasets"]:
        for rule in ("baseline",) if strict else ("baseline", "baseline_strict"):
            yield Job(rule, {**here, "dataset": dataset}, f"{model} {rule}", (asked,))
    for label in editors:
        compared = () if strict else compared_shards(config, sizes, model, label)
        for dataset in config["datasets"]:
            if (model, dataset, label) not in sizes:
                continue
            chosen = f"{model} tune {tuned_label(config, label)}"
            after = (asked, *_after(config, model, contents, label, dataset), chosen)
            for seed in config["seeds"]:
                for shard in shard_ranges(number_of_cases(config, dataset), sizes[model, dataset, label]):
                    where = {**here, "dataset": dataset, "editor": label, "seed": str(seed), "shard": shard}
                    for rule in ("edit", "edit_strict") if (dataset, shard) in compared else ("edit",):
                        yield Job(rule, where, f"{model} edits", after)

    def waits_for(label: str) -> tuple[str, ...]:
        if not label:
            return weights, asked
        chosen = f"{model} tune {tuned_label(config, label)}"
        return weights, asked, *_after(config, model, contents, label, LIKE), chosen

    yield from sequence_jobs(config, model, waits_for)


def _runs(config: Mapping[str, Any], model: str) -> list[tuple[str, str]]:
    """Dataset and editor of all that a model is edited for; a plan's edits are made as those of LIKE are."""
    cases = [(name, label) for name in config["datasets"] for label in editors_of_dataset(config, name)]
    return cases + [
        (LIKE, label)
        for plan in plans_of(config).values()
        if model in models_of_plan(config, plan)
        for label in editors_of_plan(config, plan)
    ]


def _kinds(config: Mapping[str, Any], training: bool) -> tuple[str, ...]:
    """Return the kinds of scoring of a model: both for cases, else those that plans and trainings need."""
    if config["datasets"]:
        return ("facts", "objects")
    known = any(plan["edits"]["source"] == "graph" for plan in plans_of(config).values())
    return (*(("facts",) if known else ()), *(("objects",) if training else ()))


def _questions(
    config: Mapping[str, Any], where: Mapping[str, str], group: str, weights: str, kinds: tuple[str, ...]
) -> Iterator[Job]:
    n = config["shards"]["questions"]
    for rule in ({"facts": "verify_facts", "objects": "score_objects"}[kind] for kind in kinds):
        yield from (Job(rule, {**where, "part": f"{i}-of-{n}"}, group, (weights,)) for i in range(1, n + 1))


def hypernetwork_kind(config: Mapping[str, Any], dataset: str) -> str:
    """Kind of hypernetwork that edits a dataset."""
    return "all" if config["mend"]["kinds"] == "all" else find_dataset(dataset).kind


def tuned_label(config: Mapping[str, Any], label: str) -> str:
    """The editor whose trials choose the settings of another."""
    return config["editors"][label].get("tuned_as", label)


def tuned(config: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """The editors that are tuned, where their settings have alternatives."""
    unmined = config["kgs"][config["kg"]]["source"] in ("released", "none")
    if config["tuning"]["trials"] <= 1 or unmined:
        return []
    labels = {tuned_label(config, label) for label, editor in config["editors"].items() if editor}
    return sorted(
        label for label in labels if model["search"].get(method_of(config["editors"][label]["method"]).name)
    )


def _after(
    config: Mapping[str, Any], model: str, contents: Mapping[str, Any], label: str, dataset: str
) -> tuple[str, ...]:
    """Return the groups that an editor waits for beside cases: those that make artifacts which it needs.

    An artifact that is made without a GPU has none, and is not waited for.
    """
    kinds = {"hypernetwork": f"hypernetwork {hypernetwork_kind(config, dataset)}"}
    needed = needed_artifacts(config["editors"][label], contents)
    return tuple(f"{model} {kinds.get(artifact, artifact)}" for artifact in needed)
