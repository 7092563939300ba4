"""The file of a model from a folder, the Hub or a GGUF file: `aftershock add-model`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aftershock.editors.methods import find_methods
from aftershock.lm.families import family_of, list_families
from aftershock.project import PROJECT
from aftershock.schema import faults, read_schema
from aftershock.text_files import read_yaml

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SIZES = ("width", "inner", "vocabulary")
"""Entries of `shape` without which the others say nothing."""


def write_model_file(source: str, name: str | None, revision: str, folder: Path) -> list[str]:
    """Write the file of a model to `folder`; return lines on what it says, and on what could not be found.

    source: a folder with config.json, a GGUF file, or owner/name of a repository on the Hub.
    name: of the file, without its ending; None for the source's.
    revision: of the repository.

    ValueError where the source is none of these or cannot be read, and where the file exists already.
    """
    name = name or re.sub(r"[^\w.-]+", "-", Path(source).name.removesuffix(".gguf")).lower()
    file = folder / f"{name}.yaml"
    if file.exists():
        raise ValueError(f"{file} exists already; choose another --name, or remove it")
    origin, config = _read(source, revision)
    sizes, missing = _sizes(config)
    published = _published_layers(config.model_type, sizes)
    content: dict[str, Any] = {
        "description": f"{Path(source).name}, as its configuration describes it",
        "source": origin,
        "model_type": config.model_type,
        **sizes,
        "moments": {"text": "self"},
        **({"editors": published} if published else {}),
    }
    if wrong := [str(fault) for fault in faults(content, read_schema("model"))]:
        raise ValueError(f"{source} cannot be described as a model: {'; '.join(wrong)}")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None), encoding="utf-8")
    return [f"{file} is written.", *_told(content), *missing, f"To use it: models: [{name}]"]


def _read(source: str, revision: str) -> tuple[dict[str, str], PretrainedConfig]:
    """Return where a model comes from, as its file names it, and its configuration."""
    path = Path(source)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"there is no file {source!r}")
        from aftershock.lm.files.gguf_files import read_header

        read_header(path)
        return {"gguf": source}, _config(path.parent, source, gguf_file=path.name)
    if (path / "config.json").is_file():
        return {"path": source}, _config(path, source)
    if path.is_dir():
        raise ValueError(f"{source} holds no config.json; name a folder as transformers saves a model")
    if not HUB_NAME.fullmatch(source):
        raise ValueError(f"{source!r} is no folder, no GGUF file (*.gguf) and no owner/name on the Hub")
    from aftershock.lm.files.hub import find_repository

    repository = find_repository(source, revision)
    if "config.json" not in repository.sha256:
        raise ValueError(f"{repository} holds no config.json; it is no model of transformers")
    with tempfile.TemporaryDirectory() as into:
        repository.download(["config.json"], Path(into))
        return {"hub": source, "revision": repository.commit}, _config(Path(into), source)


def _config(folder: Path, source: str, **options: str) -> PretrainedConfig:
    """Return the configuration of a folder's language model; ValueError where transformers cannot read it."""
    from transformers import AutoConfig

    try:
        read = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except (ValueError, KeyError, OSError) as error:
        said = str(error).strip().partition("\n")[0]
        raise ValueError(f"transformers cannot read the configuration of {source}: {said}") from error
    return read.get_text_config()


def _sizes(config: PretrainedConfig) -> tuple[dict[str, Any], list[str]]:
    """Return `n_layers` and `shape` as far as a configuration has them, and lines on what is missing."""
    width = getattr(config, "hidden_size", None)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    if inner is None and hasattr(config, "n_inner") and width:
        inner = 4 * width  # what GPT-2 and GPT-J take where theirs is null
    found = {"width": width, "inner": inner, "vocabulary": getattr(config, "vocab_size", None)}
    missing = [f"not found: shape.{name}" for name in SIZES if not found[name]]
    if config.model_type not in list_families():
        missing.append(
            f"not known: family {config.model_type}, so that no method edits it; a file "
            f"lm/families/{config.model_type}.py adds it (known: {', '.join(list_families())})"
        )
    n_layers = getattr(config, "num_hidden_layers", None)
    if not n_layers:
        return {}, [*missing, "not found: n_layers, without which `shape` is left out; give both"]
    if not all(found.values()):
        return {"n_layers": n_layers}, [*missing, "`shape` is left out; costs are then those of 7B weights"]
    return {"n_layers": n_layers, "shape": {**found, **_other_sizes(config)}}, missing


def _other_sizes(config: PretrainedConfig) -> dict[str, Any]:
    """Return the entries of `shape` that have a default, where they differ from it."""
    heads = getattr(config, "num_attention_heads", 0) or 0
    pairs = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
    known = config.model_type in list_families()
    found: dict[str, Any] = {}
    if pairs * head not in (0, config.hidden_size):
        found["key_value"] = pairs * head
    if known and any("gate" in module for module in family_of(config.model_type).inputs):
        found["gated"] = True
    if getattr(config, "tie_word_embeddings", False):
        found["tied"] = True
    return found


def _published_layers(model_type: str, sizes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the layers of each method in a shipped file of a model of the same family and sizes."""
    for file in sorted((PROJECT / "resources" / "models").glob("*.yaml")):
        model = read_yaml(file)
        alike = model.get("model_type") == model_type and "shape" in sizes
        if alike and all(model.get(key) == sizes[key] for key in ("n_layers", "shape")):
            return {
                method: {"layers": values["layers"]}
                for method, values in model.get("editors", {}).items()
                if "layers" in values
            }
    return {}


def _told(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a model's file says, and which layers each method edits by it."""
    n_layers = content.get("n_layers")
    shape = ", ".join(f"{name} {value}" for name, value in content.get("shape", {}).items())
    yield f"family {content['model_type']}, {n_layers or 'unknown'} layers" + (f"; {shape}" if shape else "")
    published = content.get("editors", {})
    if published:
        yield "layers by published settings: " + _listed(
            {method: values["layers"] for method, values in published.items()}
        )
    if n_layers:
        rules = {name: found.method.layers for name, found in find_methods().items() if name not in published}
        yield "layers by depth: " + _listed({name: rule(n_layers) for name, rule in rules.items() if rule})
    yield "second moments are taken over texts that the model writes itself (moments: {text: self})"


def _listed(layers: Mapping[str, Any]) -> str:
    return ", ".join(f"{method} {_range(chosen)}" for method, chosen in sorted(layers.items()))


def _range(layers: Sequence[int]) -> str:
    whole = len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if whole else " and ".join(map(str, layers))
