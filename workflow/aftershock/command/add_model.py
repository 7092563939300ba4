"""The file of a model from a folder, the Hub or a GGUF file: `aftershock add-model`."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aftershock.editors.methods import find_methods
from aftershock.lm.families import list_families
from aftershock.lm.files.sizes import sizes_of_source
from aftershock.project import PROJECT
from aftershock.schema import faults, read_schema
from aftershock.text_files import read_yaml


def write_model_file(source: str, name: str | None, revision: str, folder: Path) -> list[str]:
    """Write the file of a model to `folder`; return lines on what it says, and on what could not be found.

    source: a folder with config.json, a GGUF file, or owner/name of a repository on the Hub.
    name: of the file, without its ending; None for the source's.
    revision: of the repository.

    ValueError where the source is none of these or cannot be read, where the name is none that a run can use,
    and where the file exists already.
    """
    own = Path(source).resolve().name if Path(source).exists() else Path(source).name
    name = name or re.sub(r"[^\w.-]+", "-", own.removesuffix(".gguf")).strip("-.").lower()
    if wrong := faults(name, read_schema("config")["$defs"]["name"]):
        raise ValueError(f"--name: {wrong[0]}; give another one")
    file = folder / f"{name}.yaml"
    if file.exists():
        raise ValueError(f"{file} exists already; choose another --name, or remove it")
    origin, sizes = _read(source, revision)
    published = _published_layers(sizes)
    layers = {method: {"layers": found} for method, found in published.items()}
    content = {
        "description": f"{own}, as its configuration describes it",
        "source": origin,
        **sizes,
        "moments": {"text": "self"},
        **({"editors": layers} if layers else {}),
    }
    if wrong := faults(content, read_schema("model")):
        raise ValueError(f"{source} cannot be described as a model: {'; '.join(map(str, wrong))}")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None), encoding="utf-8")
    return [f"{file} is written.", *_remarks(sizes, published), f"To use it: models: [{name}]"]


def _read(source: str, revision: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return where a model comes from, as its file names it, and its family and sizes."""
    path = Path(source)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"there is no file {source!r}")
        from aftershock.lm.files.gguf_files import read_header

        read_header(path)
        return {"gguf": source}, sizes_of_source({"gguf": source}, path.parent)[1]
    if path.is_dir():
        return {"path": source}, _sizes_of_folder(path, source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise ValueError(f"{source!r} is no folder, no GGUF file (*.gguf) and no owner/name on the Hub")
    from aftershock.lm.files.hub import find_repository

    repository = find_repository(source, revision)
    with tempfile.TemporaryDirectory() as into:
        repository.download([name for name in ("config.json",) if name in repository.sha256], Path(into))
        return {"hub": source, "revision": repository.commit}, _sizes_of_folder(Path(into), source)


def _sizes_of_folder(folder: Path, source: str) -> dict[str, Any]:
    """Return family and sizes by a folder's config.json; ValueError where it names no family."""
    _, sizes = sizes_of_source({"path": str(folder)}, folder)
    if "model_type" not in sizes:
        raise ValueError(f"{source} holds no config.json that names a model_type, as transformers writes it")
    return sizes


def _published_layers(sizes: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the layers of each method in a shipped file of a model of the same family and sizes."""
    for model in map(read_yaml, sorted((PROJECT / "resources" / "models").glob("*.yaml"))):
        if "shape" in sizes and all(model.get(key) == value for key, value in sizes.items()):
            found = model.get("editors", {}).items()
            return {method: list(settings["layers"]) for method, settings in found if "layers" in settings}
    return {}


def _remarks(sizes: Mapping[str, Any], published: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield what a model's file says, the layers that each method edits by it, and what was not found."""
    family, n_layers = sizes.get("model_type"), sizes.get("n_layers")
    shape = ", ".join(f"{name} {value}" for name, value in sizes.get("shape", {}).items())
    yield f"family {family}, {n_layers or 'unknown'} layers; {shape}"
    if published:
        yield "layers by published settings: " + _listed(published)
    rules = {name: found.method.layers for name, found in find_methods().items() if name not in published}
    if n_layers:
        yield "layers by depth: " + _listed({name: rule(n_layers) for name, rule in rules.items() if rule})
    else:
        yield "not found: n_layers, which methods need to choose layers; give it"
    if not shape:
        yield "not found: shape, without which costs are those of seven billion weights"
    if family not in list_families():
        known = ", ".join(list_families())
        yield f"not known: family {family}, which a file lm/families/{family}.py adds (known: {known})"


def _listed(layers: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(f"{method} {', '.join(map(str, chosen))}" for method, chosen in sorted(layers.items()))
