"""The models' files: those that are edited, and those that write or rank paraphrases."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aftershock.config.editors import fault_of_method
from aftershock.config.fetched import weights_folder
from aftershock.config.settings import (
    TRAININGS,
    depth,
    merged_settings,
    needed_artifacts,
    searched,
    setting_errors,
    suited_layers,
    together_errors,
    training_errors,
    trial_errors,
)
from aftershock.editors.methods import find_methods, method_of
from aftershock.editors.settings import merge
from aftershock.lm.families import list_families
from aftershock.lm.files.folders import read_object
from aftershock.lm.files.sizes import sizes_of_config, sizes_of_source
from aftershock.schema import faults, fill_defaults, read_schema, suggestion, without
from aftershock.text_files import read_yaml

READING = ("document_token", "prompt_format")


def file_of_model(name: str, folder: Path) -> Path:
    """Return the path of a model's file: in `resources/models` of the working folder, else in `folder`."""
    own = Path("resources", "models", f"{name}.yaml")
    return own if own.is_file() else folder / own.name


def _known_models(folder: Path) -> set[str]:
    return {file.stem for place in (Path("resources", "models"), folder) for file in place.glob("*.yaml")}


def read_models(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Contents of the configured models' files by name, and what is wrong with them."""
    models, errors = {}, []
    for name in config["models"]:
        file = file_of_model(name, folder)
        if not file.is_file():
            known = suggestion(name, _known_models(folder))
            errors.append(f"models: {name!r} has no file resources/models/{file.name}; {known}")
            continue
        try:
            model = read_yaml(file)
        except ValueError as error:
            errors.append(str(error).replace(str(file), f"resources/models/{file.name}"))
            continue
        lines = [*_fill_from_files(name, model)] if isinstance(model, dict) else []
        fill_defaults(model, read_schema("model"))
        found = faults(model, read_schema("model"))
        lines += [*map(str, found), *_model(without(model, found), config)]
        errors += [f"resources/models/{file.name}: {line}" for line in lines]
        models[name] = without(model, found)
    return models, errors


def _fill_from_files(name: str, model: dict[str, Any]) -> Iterator[str]:
    """Put what a model's own files say into the contents of its YAML, in place; yield contradictions."""
    source, shape = model.get("source"), model.get("shape") or {}
    if not isinstance(source, dict) or not isinstance(shape, dict):
        return
    named = {key: value for key, value in source.items() if isinstance(value, str)}
    file, said = sizes_of_source(named, weights_folder(name))
    known = _flat(said.get("shape", {}))
    for key, value in _given(model, ("model_type", "n_layers"), said) + _given(shape, known, known):
        where = key if key in said else f"shape.{key}"
        told = f"{value!r}, but {file} says {said.get(key, known.get(key))!r}"
        yield f"{where}: {told}; remove it, as it is read there, or name another source"
    own = {key: value for key, value in model.items() if value is not None}
    model |= {**said, **own}
    if known:
        model["shape"] = {**known, **{key: value for key, value in shape.items() if value is not None}}


def _flat(shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return all entries of a shape, defaults among them."""
    return {"key_value": shape["width"], "gated": False, "tied": False, **shape} if shape else {}


def _given(values: Mapping[str, Any], keys: Iterable[str], said: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the entries that somebody gave and that differ from what is said elsewhere."""
    return [
        (key, values[key])
        for key in keys
        if key in said and values.get(key) is not None and values[key] != said[key]
    ]


def _model(model: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Yield faults of a model's file that its schema does not find."""
    if "kg" in model and model["kg"] not in config["kgs"]:
        yield f"kg: {model['kg']!r} is unknown; {suggestion(model['kg'], config['kgs'])}"
    family = model.get("model_type")
    if family is not None and family not in list_families():
        known = suggestion(family, list_families())
        yield f"model_type: {family!r} is unknown, so that no method edits it; {known}"
    if (n := depth(model)) is not None:
        for method, values in model.get("editors", {}).items():
            layers = values.get("layers", ())
            layers = layers if isinstance(layers, list) else ()
            if beyond := [layer for layer in layers if isinstance(layer, int) and layer >= n]:
                yield f"editors.{method}.layers: {beyond} are not among the model's layers 0 to {n - 1}"
    yield from _moments(model.get("moments", {}))
    if "train" in model and model.get("prompt_format") == "chat":
        yield "prompt_format: a model that is trained here has no chat template; leave it at plain"
    yield from _without_layers(model, config)
    for training in TRAININGS:
        yield from training_errors(training, model.get(training, {}))
    named = _methods_by_name(config)
    for part in ("editors", "search"):
        for method, values in model.get(part, {}).items():
            if fault := fault_of_method(named.get(method, method)):
                yield f"{part}.{method}: {fault}"
            elif part == "editors":
                yield from setting_errors(named.get(method, method), f"{part}.{method}", values)
            else:
                own = model.get("editors", {}).get(method, {})
                for setting, options in values.items():
                    for option in options:
                        given = named.get(method, method), f"{part}.{method}", {setting: option}
                        yield from setting_errors(*given, own)


def _moments(moments: Mapping[str, Any]) -> Iterator[str]:
    """Yield contradictions in where a model's second moments are from."""
    if "hub" in moments and (both := sorted({"text", "tokens"} & set(moments))):
        yield f"moments: hub and file name published second moments, so {' and '.join(both)} must go"
    if moments.get("text") == "self" and moments.get("vectors_per_dimension", 1) is None:
        yield (
            "moments.vectors_per_dimension: null means all documents, and a model that writes its own never "
            "ends; give a number"
        )


def _methods_by_name(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the methods that editors name by a path, by the name that a model's file has for them."""
    methods = [editor["method"] for editor in config["editors"].values() if editor]
    named = {method_of(method).name: method for method in methods if not fault_of_method(method)}
    return {name: method for name, method in named.items() if name not in find_methods()}


def _without_layers(model: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Configured editors whose layers neither a file nor the model's depth can tell."""
    for label, editor in config["editors"].items():
        method = editor["method"] if editor else None
        if (
            not method
            or fault_of_method(method)
            or depth(model) is not None
            or "layers" in editor["settings"]
            or not hasattr(method_of(method).settings(), "layers")
        ):
            continue
        method_name = method_of(method).name
        if "layers" not in {**suited_layers(method, model), **model.get("editors", {}).get(method_name, {})}:
            yield f"editors.{method}.layers: missing, for editor {label}; give them, or n_layers"


def encoder_errors(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the editors that need a sentence encoder where the configuration names none."""
    if config["cases"].get("label_encoder", "model") != "model":
        return
    for label, editor in config["editors"].items():
        if not editor or fault_of_method(editor["method"]):
            continue
        for name in config["models"]:
            try:
                needed = needed_artifacts(editor, models[name])
            except (KeyError, ValueError):
                continue  # said elsewhere
            if "sentence_encoder" in needed:
                yield (
                    f"editors.{label}: it compares texts with a sentence encoder; name one in "
                    "cases.label_encoder: {hub: owner/name, revision: commit}, or take the model's embeddings"
                )
                break


def layer_errors(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield contradictions between the settings of editors, those tried included, and the models."""
    trials = _trials(config)
    for name, model in models.items():
        for label, editor in config["editors"].items():
            if name in config["models"] and editor and not fault_of_method(editor["method"]):
                about = editor, f"editors.{label}", name, model, trials
                yield from together_errors(*about)
                if editor.get("tuned_as", label) == label:
                    yield from trial_errors(*about)


def _trials(config: Mapping[str, Any]) -> int:
    """Return the number of settings that are tried for an editor; nothing is tried on published files."""
    source = config["kgs"].get(config.get("kg"), {}).get("source")
    trials = config.get("tuning", {}).get("trials", 1)
    return trials if source not in ("released", "none") and isinstance(trials, int) else 1


def family_errors(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the editors whose method cannot edit a model's family.

    Where neither the model's file nor its weights tell the family, a method has to edit all of them.
    """
    for name, model in models.items():
        if name not in config["models"]:
            continue
        family = model_type_of(model) or family_of_weights(name)
        for label, editor in config["editors"].items():
            if not editor or fault_of_method(editor["method"]):
                continue
            if family:
                if fault := _family_fault(editor, label, model, family, _trials(config)):
                    yield f"editors.{label}: {fault}; {name} is one. Leave one of the two out"
                continue
            for possible in list_families():
                if fault := _family_fault(editor, label, model, possible, _trials(config)):
                    yield (
                        f"editors.{label}: it cannot edit models of every family ({fault}), and "
                        f"resources/models/{name}.yaml does not say of which {name} is; give model_type there"
                    )
                    break


def _family_fault(
    editor: Mapping[str, Any], label: str, model: Mapping[str, Any], family: str, trials: int
) -> str | None:
    """Return why an editor cannot edit models of a family with its settings, those tried included."""
    found = method_of(editor["method"])
    try:
        values = merged_settings(editor, model)
        tried = ({}, *searched(editor, model, trials))
        made = (merge(found.settings, label, values, chosen) for chosen in tried)
        return next(filter(None, (found.fault_of_family(family, settings) for settings in made)), None)
    except (KeyError, ValueError):  # what is wrong with settings is said elsewhere
        return found.fault_of_family(family)


def family_of_weights(name: str) -> str | None:
    """Return the family of a model whose weights are there already, or None."""
    return sizes_of_config(read_object(weights_folder(name) / "config.json")).get("model_type")


def model_type_of(model: Mapping[str, Any]) -> str | None:
    """Return the `model_type` of a model, as its file or its own files have it, or None.

    Models that are trained here are GPT-2.
    """
    return "gpt2" if "train" in model else model.get("model_type")


def reading_of(model: Mapping[str, Any], keys: Sequence[str] = READING) -> dict[str, Any]:
    """Return how a model's file says that texts are read, without what is the default.

    Jobs have it in their parameters: one whose model's file says nothing of it is as it was before.
    """
    schema = read_schema("model")["properties"]
    return {key: model[key] for key in keys if key in model and model[key] != schema[key]["default"]}


def read_helpers(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Contents of the files of models that write or rank paraphrases, and what is wrong with them.

    Without a back end none is used.
    """
    settings = config.get("paraphrases", {})
    models: dict[str, dict[str, Any]] = {}
    errors: list[str] = []
    if not settings.get("backend"):
        return models, errors
    if not settings.get("model"):
        errors.append(f"paraphrases.model: missing; backend {settings['backend']} needs one")
    keys = ["ranking_model", *(["model"] if settings["backend"] == "local" else [])]
    for key in keys:
        name = settings.get(key)
        if not name:
            continue
        file = file_of_model(name, folder)
        if not file.is_file():
            known = suggestion(name, _known_models(folder))
            errors.append(f"paraphrases.{key}: {name!r} has no file resources/models/{file.name}; {known}")
            continue
        found, wrong = read_models({"models": [name], "kgs": config["kgs"], "editors": {}}, folder)
        errors += [line for line in wrong if name not in config["models"]]
        models |= found
        if "train" in found.get(name, {}):
            errors.append(
                f"paraphrases.{key}: {name!r} is trained here on these very prompts; take one with a `source`"
            )
    return models, errors
