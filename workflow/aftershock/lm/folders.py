"""What is wrong with a folder of weights, told from names and sizes before a library reads it.

Nothing here loads torch. A fault is a few words about the folder, None where it can be loaded as far as that
can be seen.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PROVENANCE = "provenance.json"
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers")  # what architectures call their number of layers
OLDER_TOKENIZERS = (("vocab.json", "merges.txt"), ("tokenizer.model",))  # each stands for a tokenizer.json
LENGTH = 8  # bytes that say how long a safetensors file's header is


def fault_of_model(folder: str | Path) -> str | None:
    """What keeps a model or text classifier from being loaded: a file that is missing or cut short."""
    folder = Path(folder)
    return next(_model_faults(folder), None)


def fault_of_encoder(folder: str | Path) -> str | None:
    """The same of a sentence encoder."""
    folder = Path(folder)
    if not (folder / "modules.json").is_file():
        return "is no sentence encoder: it has no modules.json"
    files = sorted(folder.rglob("*.safetensors"))
    return next(_weight_faults(folder, [str(file.relative_to(folder)) for file in files]), None)


def fault_of_origin(folder: str | Path, source: Mapping[str, str], n_layers: int | None) -> str | None:
    """Why a fetched model's folder is not what its file asks for; a folder put there by hand tells little.

    `source` is that of the model's file, {hub, revision} or {path}, and `n_layers` the depth it tells.
    """
    folder = Path(folder)
    depth = next((n for name in DEPTHS if (n := _read(folder / "config.json").get(name))), None)
    if n_layers and depth and depth != n_layers:
        return f"holds a model of {depth} layers, not of {n_layers}"
    found = _read(folder / PROVENANCE)
    if "hub" not in source or not found:
        return None
    if found.get("hub") != source["hub"]:
        return f"holds {found.get('hub') or found.get('path')}, not {source['hub']}"
    if source["revision"] not in (found.get("revision"), found.get("commit")):
        return f"holds revision {found.get('revision')} of {source['hub']}, not {source['revision']}"
    return None


def _model_faults(folder: Path) -> Iterator[str]:
    older = any(all((folder / name).is_file() for name in names) for names in OLDER_TOKENIZERS)
    for name in ("config.json", "tokenizer.json"):
        if name == "tokenizer.json" and older and not (folder / name).is_file():
            continue
        if not (folder / name).is_file():
            yield f"is no whole model: it has no {name}"
        elif not _read(folder / name):
            yield f"is no whole model: its {name} cannot be read"
    names = sorted(file.name for file in folder.glob("*.safetensors"))
    if (folder / INDEX).is_file() and not (folder / SINGLE).is_file():
        names = sorted(set(_read(folder / INDEX).get("weight_map", {}).values()))
    yield from _weight_faults(folder, names)


def _weight_faults(folder: Path, names: list[str]) -> Iterator[str]:
    if not names:
        yield "is not whole: it has no *.safetensors"
    for name in names:
        if not (folder / name).is_file():
            yield f"is not whole: it has no {name}"
        elif not _is_whole(folder / name):
            yield f"is not whole: {name} is damaged or cut short"


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        if not 0 < length <= size - LENGTH:
            return False
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, AttributeError):
            return False
    return size == LENGTH + length + max(ends, default=0)


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
