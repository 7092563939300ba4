"""The jobs of a run that need a GPU, in the order in which they wait for each other.

Said from the configuration alone, so that a study can be planned before its files are there; a test holds it
against what Snakemake would run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from aftershock.budget.job import Job
from aftershock.budget.sequence_jobs import sequence_jobs
from aftershock.budget.sharding import number_of_cases, shard_ranges, shard_sizes
from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of
from aftershock.config.settings import (
    artifact_layers,
    is_gathered,
    is_published,
    moment_layers,
    needed_artifacts,
)
from aftershock.config.used import editors_of_dataset
from aftershock.datasets.table import ROUND
from aftershock.editors.methods import method_of
from aftershock.metrics.precision import CASES_NEEDED

LIKE = "coverage"
"""The dataset whose artifacts and tuned settings edits of plans take."""


def gpu_jobs(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> list[Job]:
    """All jobs of a run that need a GPU."""
    sizes = shard_sizes(config, models)
    return [job for model in config["models"] for job in _of_model(config, models[model], model, sizes)]


def _of_model(
    config: Mapping[str, Any], contents: Mapping[str, Any], model: str, sizes: Mapping[tuple, int]
) -> Iterator[Job]:
    kg = config["kg"]
    here = f"results/{kg}/{model}"
    editors = {label: editor for label, editor in config["editors"].items() if editor}
    weights, asked, moments = f"{model} weights", f"{model} answers", f"{model} moments"
    if "train" in contents:
        out = f"results/models/{model}/weights"
        yield Job("train_lm", {"model": model}, out, weights, ())
    text = (f"{model} text",) if is_gathered(contents) else ()
    if moment_layers(editors, contents):
        if text:
            out = f"results/models/{model}/gathered.jsonl"
            yield Job("gather_text", {"model": model}, out, *text, (weights,))
        if not is_published(contents):
            out = f"results/models/{model}/moments.safetensors"
            yield Job("moments", {"model": model}, out, moments, (weights, *text))
    if artifact_layers("attention_moments", editors, contents):
        out = f"results/models/{model}/attention_moments.safetensors"
        group = f"{model} attention moments"
        yield Job("attention_moments", {"model": model}, out, group, (weights, *text))
    if artifact_layers("null_space", editors, contents):
        out = f"results/models/{model}/null_space.safetensors"
        yield Job("null_space", {"model": model}, out, f"{model} null space", (moments,))
    runs = _runs(config, model)
    needed = {label: needed_artifacts(editors[label], contents) for _, label in runs}
    trained = {
        hypernetwork_kind(config, dataset) for dataset, label in runs if "hypernetwork" in needed[label]
    }
    cached = any("scope_models" in artifacts for artifacts in needed.values())
    other = config["mend"]["kg"] or kg
    of_graph = bool(trained or cached) and not config["mend"]["edits"]
    yield from _questions(config, model, kg, asked, weights, _kinds(config, of_graph and other == kg))
    if of_graph and other != kg:
        yield from _questions(config, model, other, asked, weights, ("objects",))
    read = (weights,) if config["mend"]["edits"] else (weights, asked)
    for kind in sorted(trained):
        out = f"results/{other}/{model}/mend/{kind}/hypernetwork.safetensors"
        wildcards = {"kg": other, "model": model, "kind": kind}
        yield Job("train_mend", wildcards, out, f"{model} mend {kind}", read)
    if cached:
        out, wildcards = (
            f"results/{other}/{model}/serac/scope_models.safetensors",
            {"kg": other, "model": model},
        )
        yield Job("train_serac", wildcards, out, f"{model} serac", read)
    for label in tuned(config, contents):
        out, wildcards = f"{here}/tune/{label}.parquet", {"kg": kg, "model": model, "editor": label}
        needs = _after(config, model, contents, label, "coverage")
        yield Job("tune", wildcards, out, f"{model} tune {label}", (asked, *needs))
    strict = config["engine"]["precision"] == "strict"
    for dataset in config["datasets"]:
        wildcards = {"kg": kg, "model": model, "dataset": dataset}
        for rule, folder in (("baseline", ""), *(() if strict else (("baseline_strict", "strict/"),))):
            yield Job(
                rule, wildcards, f"{here}/{dataset}/{folder}unedited.parquet", f"{model} {rule}", (asked,)
            )
    for label in editors:
        compared = set() if strict else _compared(config, model, label, sizes)
        for dataset in config["datasets"]:
            if (model, dataset, label) not in sizes:
                continue
            chosen = (f"{model} tune {tuned_label(config, label)}",)
            after = (asked, *_after(config, model, contents, label, dataset), *chosen)
            for seed in config["seeds"]:
                for shard in shard_ranges(number_of_cases(config, dataset), sizes[model, dataset, label]):
                    where = {"kg": kg, "model": model, "dataset": dataset, "editor": label}
                    where |= {"seed": str(seed), "shard": shard}
                    folder = f"{here}/{dataset}/{label}/s{seed}"
                    out = f"{folder}/observations/{shard}.parquet"
                    yield Job("edit", where, out, f"{model} edits", after)
                    if (dataset, shard) in compared:
                        out = f"{folder}/strict/observations/{shard}.parquet"
                        yield Job("edit_strict", where, out, f"{model} edits", after)

    def waits_for(label: str) -> tuple[str, ...]:
        chosen = (f"{model} tune {tuned_label(config, label)}",) if label else ()
        return (weights, asked, *(_after(config, model, contents, label, LIKE) if label else ()), *chosen)

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
    config: Mapping[str, Any],
    model: str,
    kg: str,
    group: str,
    weights: str,
    kinds: tuple[str, ...],
) -> Iterator[Job]:
    n = config["shards"]["questions"]
    for kind in kinds:
        for part in (f"{i}-of-{n}" for i in range(1, n + 1)):
            rule = {"facts": "verify_facts", "objects": "score_objects"}[kind]
            out = f"results/{kg}/{model}/answers/{kind}.{part}.parquet"
            yield Job(rule, {"kg": kg, "model": model, "part": part}, out, group, (weights,))


def hypernetwork_kind(config: Mapping[str, Any], dataset: str) -> str:
    """Kind of hypernetwork that edits a dataset."""
    return "all" if config["mend"]["kinds"] == "all" else "round" if dataset in ROUND else "conflict"


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

    An artifact that is made without a GPU has none.
    """
    named = {
        "moments": f"{model} moments",
        "attention_moments": f"{model} attention moments",
        "null_space": f"{model} null space",
        "hypernetwork": f"{model} mend {hypernetwork_kind(config, dataset)}",
        "scope_models": f"{model} serac",
    }
    needed = needed_artifacts(config["editors"][label], contents)
    return tuple(named[artifact] for artifact in needed if artifact in named)


def _compared(
    config: Mapping[str, Any], model: str, label: str, sizes: Mapping[tuple, int]
) -> set[tuple[str, str]]:
    """Dataset and shard of the cases on which precisions are compared: of each dataset in turn."""
    names = [name for name in config["datasets"] if (model, name, label) in sizes]
    ranges = {name: shard_ranges(number_of_cases(config, name), sizes[model, name, label]) for name in names}
    chosen, tested = set(), 0
    for i in range(max(map(len, ranges.values()), default=0)):
        for name in names:
            if i < len(ranges[name]) and tested < CASES_NEEDED:
                first, last = map(int, ranges[name][i].split("-"))
                chosen.add((name, ranges[name][i]))
                tested += last - first + 1
    return chosen
