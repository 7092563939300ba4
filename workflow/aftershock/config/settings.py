"""Settings of a method for one model, what it needs for them, and what is wrong with what somebody wrote."""

from collections.abc import Iterator, Mapping
from typing import Any

from aftershock.datasets.table import find_dataset
from aftershock.editors.artifacts import with_sources
from aftershock.editors.mend import mend_training
from aftershock.editors.methods import choices, default_layers, method_of, other_choices, settings_of
from aftershock.editors.serac import serac_training
from aftershock.editors.settings import as_values, merge, problems


def merged_settings(editor: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a configured editor for one model: the method's, the model's, then the run's.

    Layers that none of them gives are those of the method that this one is like, or follow from the model's
    depth.
    """
    method = editor["method"]
    suited = model["editors"].get(method_of(method).name, {})
    return as_values(settings_of(method, suited_layers(method, model), suited, editor["settings"]))


def needed_artifacts(editor: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the artifacts that a configured editor needs for one model, in tuning too; sorted."""
    found, merged = method_of(editor["method"]), merged_settings(editor, model)
    needed = set(found.method.needs(merge(found.settings, found.name, merged)))
    for setting, options in model.get("search", {}).get(found.name, {}).items():
        for option in options:
            needed |= set(found.method.needs(merge(found.settings, found.name, merged, {setting: option})))
    return tuple(sorted(needed))


def moment_layers(editors: Mapping[str, Mapping[str, Any] | None], model: Mapping[str, Any]) -> list[int]:
    """Return every layer whose second moments are needed, by a configured editor or for what it needs."""
    return artifact_layers("moments", editors, model)


def artifact_layers(
    artifact: str, editors: Mapping[str, Mapping[str, Any] | None], model: Mapping[str, Any]
) -> list[int]:
    """Return every layer that an artifact is needed of for a model, tuning included."""
    layers = set()
    for editor in filter(None, editors.values()):
        if artifact in with_sources(needed_artifacts(editor, model)):
            layers |= set(merged_settings(editor, model)["layers"])
            searched = model["search"].get(method_of(editor["method"]).name, {}).get("layers", [])
            layers |= {layer for choice in searched for layer in choice}
    return sorted(layers)


def hypernetwork_kind(config: Mapping[str, Any], dataset: str) -> str:
    """Return the kind of hypernetwork that edits a dataset."""
    return "all" if config["mend"]["kinds"] == "all" else find_dataset(dataset).kind


def is_gathered(model: Mapping[str, Any]) -> bool:
    """Return True if the text of a model's second moments is gathered: by the model, or until they settle."""
    return model["moments"].get("text") == "self" or "tokens" in model["moments"]


def is_published(model: Mapping[str, Any]) -> bool:
    """Return True if a model's second moments are files that somebody has published."""
    return "hub" in model["moments"]


def depth(model: Mapping[str, Any]) -> int | None:
    """Return the number of layers that a model's file says it has; None where it does not say."""
    return model.get("architecture", {}).get("n_layer") or model.get("n_layers")


def suited_layers(method: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers that suit a model where its file gives none for `method`."""
    like = model.get("editors", {}).get(method_of(method).method.layers_like, {})
    if "layers" in like:
        return {"layers": like["layers"]}
    n = depth(model)
    known = n and default_layers(method, n)
    return {"layers": known} if known else {}


def setting_errors(
    method: str, where: str, values: Mapping[str, Any], over: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Yield what is wrong with settings of `method`, together and put `over` others that are sound alone."""
    kind, before = method_of(method).settings, over or {}
    known = set(problems(kind, where, before))
    yield from (line for line in problems(kind, where, before, values) if line not in known)


def together_errors(
    editor: Mapping[str, Any], where: str, name: str, model: Mapping[str, Any], trials: int = 1
) -> Iterator[str]:
    """Yield what a configured editor's settings contradict in those of a model, or in its depth.

    What is wrong with either alone is said elsewhere. With several `trials`, all that tuning may try counts.
    """
    method, own = editor["method"], editor["settings"]
    suited = model.get("editors", {}).get(method_of(method).name, {})
    alone = [problems(method_of(method).settings, where, some) for some in (own, suited)]
    if any(alone) or "editors" not in model:
        return
    try:
        found = merged_settings(editor, model)
        needed_artifacts(editor, model)
    except ValueError as error:
        yield f"{where}.settings: with those of {name}: {error}"
        return
    if "layers" in own and not own["layers"]:
        yield f"{where}.settings.layers: there is none; name at least one"
    given, last = (
        {"layers": own.get("layers"), "loss_layer": found.get("loss_layer")},
        (depth(model) or 0) - 1,
    )
    for setting, beyond in _beyond(given, model):
        yield f"{where}.settings.{setting}: {beyond} are not among {name}'s layers 0 to {last}"
    for values in searched(editor, model, trials):
        chosen = f"{where}: tuning may choose {values} of search.{method_of(method).name} of {name}"
        try:
            merge(method_of(method).settings, where, found, values)
        except ValueError as error:
            yield f"{chosen}, and then: {error}"
            return
        for setting, beyond in _beyond(values, model):
            yield f"{chosen}, and {setting} {beyond} are not among its layers 0 to {last}"
            return


def _beyond(given: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """Yield each setting of `given` that names layers beyond those of a model of known depth, with these."""
    n = depth(model)
    if n is None:
        return
    for setting in LAYERS:
        value = given.get(setting)
        layers = value if isinstance(value, list | tuple) else [value]
        if beyond := [layer for layer in layers if isinstance(layer, int) and layer >= n]:
            yield setting, beyond


def searched(editor: Mapping[str, Any], model: Mapping[str, Any], trials: int) -> Iterator[dict[str, Any]]:
    """Yield the values that tuning may choose together for an editor; none with a single trial."""
    search = model.get("search", {}).get(method_of(editor["method"]).name)
    if search and trials > 1:
        yield from choices(search)


def trial_errors(
    editor: Mapping[str, Any], where: str, name: str, model: Mapping[str, Any], trials: int
) -> Iterator[str]:
    """Yield that there are fewer settings to try than trials; what is wrong with them is said elsewhere."""
    method = method_of(editor["method"]).name
    search = model.get("search", {}).get(method)
    if not search or trials == 1:
        return
    try:
        others = other_choices(editor["method"], merged_settings(editor, model), search)
    except (KeyError, ValueError):
        return
    if len(others) < trials - 1:
        yield (
            f"tuning.trials: {trials} need {trials - 1} settings of {where} besides its own, and "
            f"search.{method} of {name} has {len(others)}; lower the number, or add values to choose from"
        )


LAYERS = ("layers", "loss_layer")
"""Settings that name layers of a model."""
TRAININGS = {"mend": mend_training, "serac": serac_training}
"""The function that merges the settings of each training, by its name in configurations."""


def training_errors(where: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings of a training that are unknown or not accepted; `where` begins with its name."""
    training = where.partition(".")[0]
    for name, value in values.items():
        try:
            TRAININGS[training]({name: value})
        except ValueError as error:
            yield str(error).replace(f"{training}.", f"{where}.", 1)
