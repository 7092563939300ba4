"""Faults of a folder of weights, found from names and sizes before a library reads it.

Nothing here loads torch. A fault is a few words about the folder, None where it can be loaded as far as that
can be seen.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PROVENANCE = "provenance.json"
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers")  # keys of the number of layers, by architecture
OLDER_TOKENIZERS = (("vocab.json", "merges.txt"), ("tokenizer.model",))  # each stands for a tokenizer.json
NESTED = ("text_config", "language_config")  # where models of several kinds of data keep the language model's
NO_CHAT_TEMPLATE = (
    "prompt_format: chat needs a chat template, and the tokenizer has none, neither a file "
    "chat_template.jinja nor an entry in tokenizer_config.json; set prompt_format: plain, or take "
    "a model that was trained to answer"
)
QUANTISED = ("quantization_config", "compression_config", "quantization")
QUANTISED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
QUANTISED_WEIGHTS = "holds quantised weights"
UNQUANTISED = "they cannot be edited or compared; take the model as it was before quantisation"
WEIGHTS = ("weight", "weight_packed", "_blocks")  # the ends of matrices' names, packed ones among them
FLOATS = ("F64", "F32", "F16", "BF16")
LENGTH = 8  # bytes of the header's length in a safetensors file


def model_file(folder: Path) -> str:
    """Return the file that describes the model of a folder in results/; the folder itself elsewhere."""
    return f"resources/models/{folder.parent.name}.yaml" if folder.name == "weights" else str(folder)


def has_chat_template(folder: Path) -> bool:
    """Return True if the tokenizer of a folder brings a chat template."""
    settings = read_object(folder / "tokenizer_config.json")
    return (folder / "chat_template.jinja").is_file() or bool(settings.get("chat_template"))


def fault_of_model(folder: str | Path) -> str | None:
    """Reason why a model or text classifier cannot be loaded: a file is missing or truncated."""
    folder = Path(folder)
    return next(_model_faults(folder), None)


def quantisation_of(settings: Mapping[str, Any], names: Iterable[str] = ()) -> str | None:
    """Return how a model is quantised, in a few words; None where it is not.

    `settings` are those of its config.json and `names` its files: older tools write a file of their own.
    """
    parts = [settings, *(settings[part] for part in NESTED if isinstance(settings.get(part), dict))]
    for part, key in itertools.product(parts, QUANTISED):
        if found := part.get(key):
            told = found if isinstance(found, dict) else {"quant_method": found}
            method = str(told.get("quant_method") or told.get("quant_type") or "unnamed method")
            bits = told.get("bits") or next((n for n in (4, 8) if told.get(f"load_in_{n}bit")), None)
            return f"{method}{f', {bits} bits' if bits else ''}, as {key} in config.json says"
    return next((f"as {name} says" for name in names if name in QUANTISED_FILES), None)


def quantisation_of_folder(folder: str | Path) -> str | None:
    """Quantisation of the model in a folder, as `quantisation_of`."""
    folder = Path(folder)
    return quantisation_of(
        read_object(folder / "config.json"), sorted(file.name for file in folder.glob("*.json"))
    )


def tensor_names(folder: str | Path) -> list[str]:
    """Return the names of the tensors in a folder of safetensors files, as far as they can be read."""
    folder = Path(folder)
    if (folder / INDEX).is_file() and not (folder / SINGLE).is_file():
        return list(_weight_map(folder))
    return [name for file in sorted(folder.glob("*.safetensors")) for name in _kinds(file) or ()]


def fault_of_encoder(folder: str | Path) -> str | None:
    """Reason why a sentence encoder cannot be loaded; None where it can."""
    folder = Path(folder)
    if not (folder / "modules.json").is_file():
        return "is no sentence encoder: it has no modules.json"
    files = sorted(folder.rglob("*.safetensors"))
    return next(_weight_faults(folder, [str(file.relative_to(folder)) for file in files]), None)


def fault_of_origin(folder: str | Path, source: Mapping[str, str], n_layers: int | None) -> str | None:
    """Mismatch between a fetched model's folder and its model file; None where there is none.

    `source` is that of the model's file, {hub, revision}, {path} or one with a GGUF file, and `n_layers` the
    depth given there.
    """
    folder = Path(folder)
    depth = next((n for name in DEPTHS if (n := read_object(folder / "config.json").get(name))), None)
    if n_layers and depth and depth != n_layers:
        return f"holds a model of {depth} layers, not of {n_layers}"
    found = read_object(folder / PROVENANCE)
    if not found:
        return None
    for key in ("package", "version", "gguf"):
        if key in source and source[key] != found.get(key):
            return f"holds {found.get(key) or 'a model'} as {key}, not {source[key]}"
    if "sha256" in source and source["sha256"] != found.get("gguf_sha256"):
        return "holds the model of another file: its sha256 differs"
    if "hub" not in source:
        return None
    if found.get("hub") != source["hub"]:
        return f"holds {found.get('hub') or found.get('path')}, not {source['hub']}"
    if source["revision"] not in (found.get("revision"), found.get("commit")):
        return f"holds revision {found.get('revision')} of {source['hub']}, not {source['revision']}"
    return None


def _model_faults(folder: Path) -> Iterator[str]:
    if found := quantisation_of_folder(folder):
        yield f"{QUANTISED_WEIGHTS} ({found}): {UNQUANTISED}"
    older = any(all((folder / name).is_file() for name in names) for names in OLDER_TOKENIZERS)
    for name in ("config.json", "tokenizer.json"):
        if name == "tokenizer.json" and older and not (folder / name).is_file():
            continue
        if not (folder / name).is_file():
            yield f"is no whole model: it has no {name}"
        elif not read_object(folder / name):
            yield f"is no whole model: its {name} cannot be read"
    names = sorted(file.name for file in folder.glob("*.safetensors"))
    if (folder / INDEX).is_file() and not (folder / SINGLE).is_file():
        names = sorted(set(_weight_map(folder).values()))
        if not names:
            yield f"is no whole model: its {INDEX} cannot be read"
    yield from _weight_faults(folder, names)


def _weight_map(folder: Path) -> dict[str, str]:
    """Return the file of each tensor by the index of a folder; empty where that cannot be read."""
    found = read_object(folder / INDEX).get("weight_map")
    named = isinstance(found, dict) and all(isinstance(name, str) for name in found.values())
    return found if named else {}  # type: ignore[return-value]  # as was just seen


def _weight_faults(folder: Path, names: list[str]) -> Iterator[str]:
    if not names:
        yield "is not whole: it has no *.safetensors"
    for name in names:
        if not (folder / name).is_file():
            yield f"is not whole: it has no {name}"
        elif (kinds := _kinds(folder / name)) is None:
            yield f"is not whole: {name} is damaged or cut short"
        elif found := next((f"{key} is {kind}" for key, kind in kinds.items() if _packed(key, kind)), None):
            yield f"{QUANTISED_WEIGHTS} ({name}: {found}): {UNQUANTISED}"


def _kinds(path: Path) -> dict[str, str] | None:
    """The type of each tensor of a safetensors file; None unless the file is as long as its header says."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        if not 0 < length <= size - LENGTH:
            return None
        try:
            header = json.loads(file.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            whole = LENGTH + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
            kinds = {name: str(entry["dtype"]) for name, entry in tensors.items()}
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError):
            return None
    return kinds if size == whole else None


def _packed(name: str, kind: str) -> bool:
    """True of a weight that is not stored as plain floating point; masks and indices may be integers."""
    return name.endswith(WEIGHTS) and kind not in FLOATS


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
