"""The graphs, models and editors that the stages of a run use; nothing is asked of any other."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of
from aftershock.config.settings import needed_artifacts
from aftershock.config.tasks import tasks_of_run
from aftershock.datasets.table import ROUND
from aftershock.editors.methods import method_of
from aftershock.schema import Fault

TRAINED = ("hypernetwork", "scope_models")
"""Artifacts that are trained on facts of a graph, or on a file of edits."""
SELECTING = ("datasets", "sequences")
"""Keys that select stages."""


def editors_of_dataset(config: Mapping[str, Any], dataset: str) -> list[str]:
    """Return the labels of the editors that `dataset` is made for.

    Multi-label editing needs several true objects.
    """
    return [
        label
        for label, editor in config["editors"].items()
        if editor and (dataset in ROUND or editor.get("second_edit", "plain") == "plain")
    ]


def used_editors(config: Mapping[str, Any]) -> set[str]:
    """Return the labels of the editors that a dataset, a plan, `find_layers` or another editor uses."""
    found = {label for dataset in config.get("datasets", ()) for label in editors_of_dataset(config, dataset)}
    found |= {label for plan in plans_of(config).values() for label in editors_of_plan(config, plan)}
    found |= set(config.get("find_layers", {}).get("editors") or ())
    editors = config["editors"]
    return found | {like for label in found if (like := (editors.get(label) or {}).get("tuned_as"))}


def used_models(config: Mapping[str, Any]) -> list[str]:
    """Return the models that datasets are made for or that a plan edits, in the order of the run."""
    if config.get("datasets"):
        return list(config["models"])
    named = {model for plan in plans_of(config).values() for model in models_of_plan(config, plan)}
    return [model for model in config["models"] if model in named]


def leave_out_unused(config: dict[str, Any], faults: Iterable[Fault] = ()) -> None:
    """Leave editors and models that no stage uses out of a configuration, as a user would; in place.

    Nothing is left out where that would leave none, or where `faults` hide what is selected: those are told
    first.
    """
    if any(fault.path[:1] == (key,) for fault in faults for key in SELECTING):
        return
    if models := used_models(config):
        config["models"] = models
    if editors := used_editors(config):
        config["editors"] = {
            label: editor if label in editors else None for label, editor in config["editors"].items()
        }


def needing(
    config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], *artifacts: str
) -> dict[str, Mapping[str, Any]]:
    """Return the editors that need one of `artifacts` for one of the run's models, by label."""
    edited = [models[name] for name in config.get("models", ()) if name in models]
    return {
        label: editor
        for label, editor in config.get("editors", {}).items()
        if editor and set(artifacts) & _artifacts(editor, edited)
    }


def _artifacts(editor: Mapping[str, Any], models: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return what an editor needs for some models; errors of its method or settings are said elsewhere."""
    found: set[str] = set()
    with suppress(KeyError, ValueError):
        always = method_of(editor["method"]).method.artifacts
        found |= set(always) if isinstance(always, tuple) else set()
        for model in models:
            found |= set(needed_artifacts(editor, model))
    return found


def used_graphs(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], folder: Path) -> set[str]:
    """Return the names of the graphs that a run reads: its own, its models' and MEND's.

    A run that only makes edits from files may read none. A name that no graph has is among them.
    """
    named = [model.get("kg") for model in models.values() if "train" in model]
    mend = config.get("mend", {})
    if needing(config, models, *TRAINED) and not mend.get("edits"):
        named.append(mend.get("kg") or config.get("kg"))
    if _reads_own(config, models, folder):
        named.append(config.get("kg"))
    return {name for name in named if isinstance(name, str)}


def _reads_own(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], folder: Path) -> bool:
    """Return True if datasets, plans, their tasks or what editors need are made of the run's own graph."""
    return bool(
        config.get("datasets")
        or any("file" not in plan["edits"] for plan in plans_of(config).values())
        or needing(config, models, "other_edits")
        or _tunes(config, models)
        or _has_task_of_graph(config, folder)
    )


def _tunes(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return True if settings of an editor are chosen on dev cases."""
    if config.get("tuning", {}).get("trials", 1) == 1:
        return False
    searched = {method for name in config["models"] for method in models.get(name, {}).get("search", {})}
    return bool(searched & {editor["method"] for editor in filter(None, config["editors"].values())})


def _has_task_of_graph(config: Mapping[str, Any], folder: Path) -> bool:
    try:
        return any(task.source == "world" for task in tasks_of_run(config, folder).values())
    except ValueError:
        return False  # a task that is unknown or wrong, which is said elsewhere
