"""Files that a run fetches: sources that are not there, and what earlier runs or people left in its place."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from aftershock.config.graphs import reads_mined
from aftershock.config.settings import depth
from aftershock.config.used import TRAINED, needing
from aftershock.lm.files.folders import (
    NO_CHAT_TEMPLATE,
    QUANTISED_WEIGHTS,
    UNQUANTISED,
    fault_of_encoder,
    fault_of_model,
    fault_of_origin,
    has_chat_template,
    quantisation_of_folder,
)
from aftershock.lm.files.sizes import fault_of_gguf

ENCODER, CLASSIFIER = Path("results/encoder"), Path("results/screen/classifier")


def weights_folder(model: str) -> Path:
    """Return the folder of a model's weights."""
    return Path("results/models", model, "weights")


def source_errors(
    config: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    folder: Path,
    used: Collection[str] = (),
) -> Iterator[str]:
    """Folders on disk that something is to be copied from and that cannot be; none once it is copied.

    Also models whose prompts are to stand in a chat template that their folder, as far as it is there, lacks.
    Labels are compared where a run reads its own graph, and screened where one of those `used` is mined.
    """
    for name, model in models.items():
        file, source = f"resources/models/{name}.yaml", model.get("source")
        yield from _unusable(f"{file}: source", source, weights_folder(name))
        places = (weights_folder(name), Path((source or {}).get("path", "")))
        place = next((place for place in places if (place / "config.json").is_file()), None)
        if model.get("prompt_format") == "chat" and place and not has_chat_template(place):
            yield f"{file}: {NO_CHAT_TEMPLATE}"
    encoder = (
        _encoder(config)
        if config.get("kg") in used or needing(config, models, "sentence_encoder", *TRAINED)
        else None
    )
    if encoder and not (folder / encoder.get("path", "")).is_dir():
        yield from _unusable("cases.label_encoder", encoder, ENCODER)
    if reads_mined(config, used):
        yield from _unusable("screen.classifier.source", _classifier(config), CLASSIFIER)


def check_fetched(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> None:
    """ValueError when a folder of weights is there and cannot be used: not whole, or of another model."""
    if errors := [*_fetched(config, models)]:
        raise ValueError("\n  ".join(["delete what cannot be used, and run again:", *errors]))


def _fetched(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, model in models.items():
        folder = weights_folder(name)
        if not folder.exists():
            continue
        source = model.get("source")
        fault = fault_of_model(folder) or (source and fault_of_origin(folder, source, depth(model)))
        if fault:
            yield f"{folder} {fault}; rule {'fetch_model' if source else 'train_lm'} makes it anew"
    if _encoder(config) and ENCODER.exists() and (fault := fault_of_encoder(ENCODER)):
        yield f"{ENCODER} {fault}; rule fetch_encoder makes it anew"
    if _classifier(config) and CLASSIFIER.exists() and (fault := fault_of_model(CLASSIFIER)):
        yield f"{CLASSIFIER} {fault}; rule fetch_classifier makes it anew"


def _unusable(key: str, source: Mapping[str, str] | None, made: Path) -> Iterator[str]:
    source = source or {}
    path = source.get("path")
    file = source.get("gguf") if not source.keys() & {"hub", "package"} else None
    if made.exists():
        return
    if file and not Path(file).is_file():
        yield f"{key}.gguf: there is no file {file!r}; a path is relative to the working directory"
    elif file and (fault := fault_of_gguf(Path(file))):
        yield f"{key}.gguf: {file} {fault}"
    if not path:
        return
    if not Path(path).is_dir():
        yield f"{key}.path: there is no folder {path!r}; a path is relative to the working directory"
    elif found := quantisation_of_folder(path):
        yield f"{key}.path: {path} {QUANTISED_WEIGHTS} ({found}): {UNQUANTISED}"


def _encoder(config: Mapping[str, Any]) -> Mapping[str, str] | None:
    encoder = config.get("cases", {}).get("label_encoder", "model")
    return None if encoder == "model" else encoder


def _classifier(config: Mapping[str, Any]) -> Mapping[str, str] | None:
    classifier = config.get("screen", {}).get("classifier")
    return classifier["source"] if classifier else None
