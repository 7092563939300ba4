"""The editors of a run, and what is trained for some of them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aftershock.config.paths import path_errors
from aftershock.config.settings import TRAININGS, merged_settings, setting_errors, training_errors
from aftershock.config.used import TRAINED, needing
from aftershock.datasets.edit_files.reading import read_edits
from aftershock.editors.methods import find_methods, method_of
from aftershock.editors.regularisers import entry_errors
from aftershock.schema import suggestion

TRAINED_FILES = ("mend/all/hypernetwork.safetensors", "serac/scope_models.safetensors")


def editor_errors(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield unknown methods and settings, and labels that stand for no editor."""
    editors = {label: editor for label, editor in config["editors"].items() if editor}
    try:
        find_methods()
    except ValueError as error:
        yield str(error)
        return
    if config["editors"] and not editors:
        yield "editors: all are null; at least one is needed"
    names = {name: name for name in find_methods()}
    for label, editor in editors.items():
        where, method = f"editors.{label}", editor["method"]
        if fault := fault_of_method(method):
            yield f"{where}.method: {fault}"
        elif (other := names.setdefault(method_of(method).name, method)) != method:
            yield f"{where}.method: {method!r} is called like {other!r}; give its file another name"
        else:
            yield from setting_errors(method, f"{where}.settings", editor["settings"])
            entries = editor.get("regularisers", ())
            yield from entry_errors(entries, f"{where}.regularisers", method, method_of(method).method)
        like = editor.get("tuned_as", label)
        if like not in editors:
            yield f"{where}.tuned_as: {like!r} is unknown; {suggestion(like, editors)}"
        elif editors[like]["method"] != method:
            yield f"{where}.tuned_as: {like!r} is of method {editors[like]['method']!r}, not {method!r}"
        released = config["kgs"].get(config.get("kg"), {}).get("source") == "released"
        if editor.get("labels") == "related" and released:
            yield f"{where}.labels: published files name no neighbours of objects; take all, or a number"
        if editor.get("labels", "all") != "all" and editor.get("second_edit") != "multi_label":
            yield f"{where}.labels: it needs second_edit: multi_label"


def name_errors(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield names of editors that there are none of."""
    for label in config.get("find_layers", {}).get("editors") or ():
        if not config["editors"].get(label):
            yield f"find_layers.editors: {label!r} is no editor here; {suggestion(label, config['editors'])}"


def fault_of_method(method: str) -> str | None:
    """Return why there is no method of this name or path; None where there is one."""
    try:
        method_of(method)
    except ValueError as error:
        return str(error)
    return None


def training_data_errors(
    config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], folder: Path
) -> Iterator[str]:
    """Yield what hinders the training of a hypernetwork, or of SERAC's models on the same facts.

    Files and graphs are asked for where an editor needs one of these, or coverage cases have texts of a file.
    """
    for training in TRAININGS:
        yield from training_errors(f"{training}.settings", config.get(training, {}).get("settings", {}))
    if "coverage" in config.get("datasets", ()):
        yield from _missing("cases.locality_file", config["cases"].get("locality_file"), folder)
    trained = needing(config, models, *TRAINED)
    if not trained:
        return
    mend, kgs = config.get("mend", {}), config["kgs"]
    edits, source = mend.get("edits"), mend.get("kg") or config.get("kg")
    yield from _missing("mend.locality_file", mend.get("locality_file"), folder)
    if edits:
        yield from _training_file_errors(config, models, edits, folder)
    if mend.get("kg") and source not in kgs:
        yield f"mend.kg: {source!r} is unknown; {suggestion(source, kgs)}"
    elif edits:
        if mend.get("kg"):
            yield "mend: kg names a graph to train on and edits a file; leave one of them out"
        if mend.get("kinds") == "separate":
            yield "mend.kinds: separate needs a graph; edits of a file are of one kind"
    elif source in kgs and kgs[source].get("source") in ("released", "none"):
        label = next(iter(trained))
        what = "published files have" if kgs[source]["source"] == "released" else f"kgs.{source} has"
        yield (
            f"mend.kg: {what} no train split; editors.{label} needs a graph that is mined, or a file of "
            "edits (mend.edits)"
        )
    yield from _different_layers(needing(config, models, "hypernetwork"), models)


def _training_file_errors(
    config: Mapping[str, Any], models: Iterable[str], edits: Mapping[str, Any], folder: Path
) -> Iterator[str]:
    """Yield why edits to train on cannot be had from their file, until every model has what is trained."""
    made = ([Path("results", config["kg"], model, file) for file in TRAINED_FILES] for model in models)
    if all(any(file.exists() for file in files) for files in made):
        return
    path = edits["file"]
    yield from (missing := list(_missing("mend.edits.file", path, folder)))
    if not missing:
        try:
            read_edits(next(each for each in (Path(path), folder / path) if each.is_file()), edits)
        except ValueError as error:
            yield f"mend.edits.file: {error}"


def _missing(key: str, path: str | None, folder: Path) -> Iterator[str]:
    """Yield that there is no such file, if one is named."""
    if path:
        yield from path_errors(key, path, folder)


def _different_layers(
    editors: Mapping[str, Mapping[str, Any]], models: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the models of which `editors` want a hypernetwork for different layers."""
    for name, model in models.items():
        try:
            layers = {tuple(merged_settings(editor, model)["layers"]) for editor in editors.values()}
        except (KeyError, ValueError):
            continue  # said elsewhere
        if len(layers) > 1:
            yield f"editors: {', '.join(editors)} share {name}'s hypernetwork, so they need the same layers"
