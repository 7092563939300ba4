"""Settings of a method for one model, and what is wrong with those that somebody wrote down."""

from collections.abc import Iterator, Mapping
from typing import Any

from aftershock.editors.depth import VARIANTS, default_layers
from aftershock.editors.settings import as_values, merge
from aftershock.editors.table import EDITORS, mend_training, settings_of


def merged_settings(editor: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a configured editor for one model: the method's, the model's, then the run's.

    Layers that none of them gives are those of the method that this one is a variant of, or follow from the
    model's depth.
    """
    method = editor["method"]
    suited = model["editors"].get(method, {})
    return as_values(settings_of(method, suited_layers(method, model), suited, editor["settings"]))


def moment_layers(editors: Mapping[str, Mapping[str, Any] | None], model: Mapping[str, Any]) -> list[int]:
    """Every layer whose second moments a configured editor needs for a model, tuning included."""
    layers = set()
    for editor in filter(None, editors.values()):
        if "moments" in EDITORS[editor["method"]].needs:
            layers |= set(merged_settings(editor, model)["layers"])
            searched = model["search"].get(editor["method"], {}).get("layers", [])
            layers |= {layer for choice in searched for layer in choice}
    return sorted(layers)


def depth(model: Mapping[str, Any]) -> int | None:
    """How many layers a model's file says it has; None where it does not say."""
    return model.get("architecture", {}).get("n_layer") or model.get("n_layers")


def suited_layers(method: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """The layers that suit a model where its file gives none for `method`."""
    like = model.get("editors", {}).get(VARIANTS.get(method), {})
    if "layers" in like:
        return {"layers": like["layers"]}
    known = depth(model) and default_layers(method, depth(model))
    return {"layers": known} if known else {}


def setting_errors(method: str, where: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Settings that `method` does not have or does not accept."""
    for name, value in values.items():
        try:
            merge(EDITORS[method].settings, where, {name: value})
        except ValueError as error:
            yield str(error)


def training_errors(where: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Settings of MEND's training that are unknown or not accepted."""
    for name, value in values.items():
        try:
            mend_training({name: value})
        except ValueError as error:
            yield str(error).replace("mend.", f"{where}.", 1)
