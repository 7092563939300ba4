"""Fetching of sentence encoders from the Hub or a folder, to be loaded without a network."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aftershock.lm.files.folders import PROVENANCE, QUANTISED_WEIGHTS, UNQUANTISED, quantisation_of
from aftershock.lm.files.hub import find_repository, place
from aftershock.output import whole_folder

MODULES = "modules.json"
LIBRARY = "sentence_transformers."
ENDINGS = (".json", ".txt", ".model", ".safetensors")


def fetch_encoder(source: Mapping[str, str], into: Path) -> None:
    """Make the folder `into`: the modules of a sentence-transformers model, and provenance.json.

    `source` is {hub: id, revision: commit, tag or branch} or {path: folder}. Only the folders that
    modules.json names are taken, weights as safetensors only. The folder appears whole; what has arrived from
    the Hub when a run is killed lies in a hidden folder beside it, where the next run goes on. ValueError
    says what a source lacks, and refuses one that brings code of its own.
    """
    if "path" in source:
        folder = Path(source["path"])
        if not folder.is_dir():
            raise ValueError(
                f"cases.label_encoder: there is no folder {str(folder)!r}; a path is relative to the working "
                "directory"
            )
        names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
        origin = _Origin(str(folder), names, lambda some: {name: folder / name for name in some}, _copy)
        _take(origin, into, dict(source))
        return
    repository = find_repository(source["hub"], source["revision"])
    work = into.with_name(f".{into.name}.{repository.commit[:12]}.fetching")
    found = {"hub": repository.hub, "revision": repository.revision, "commit": repository.commit}
    names = sorted(repository.sha256)
    _take(_Origin(str(repository), names, lambda some: repository.download(some, work), place), into, found)
    for unfinished in into.parent.glob(f".{into.name}.*.fetching"):
        shutil.rmtree(unfinished)


@dataclass(frozen=True)
class _Origin:
    """Source of an encoder's files."""

    name: str
    names: Sequence[str]
    get: Callable[[Iterable[str]], Mapping[str, Path]]
    place: Callable[[Path, Path], object]  # how a file goes where it belongs

    def __str__(self) -> str:
        return self.name


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _take(origin: _Origin, into: Path, provenance: Mapping[str, str]) -> None:
    names, get = origin.names, origin.get
    if MODULES not in names:
        raise ValueError(
            f"{origin} is no sentence encoder: it has no {MODULES}; name a model of sentence-transformers in "
            "cases.label_encoder"
        )
    folders = _folders(origin, _json(origin, get([MODULES])[MODULES]))
    mine = [name for name in names if _folder(name) in folders and name.endswith(ENDINGS)]
    small = [name for name in mine if not name.endswith(".safetensors")]
    files = dict(get(small))
    for name in small:
        settings = _settings(origin, files[name]) if name.endswith("config.json") else {}
        if found := quantisation_of(settings):
            raise ValueError(f"{origin} {QUANTISED_WEIGHTS} ({found}): {UNQUANTISED}")
        if code := settings.get("auto_map"):
            raise ValueError(
                f"{origin}: {name} asks for code that comes with the model (auto_map: "
                f"{', '.join(sorted(code))}), which is never run; choose another model"
            )
    weights = [name for name in mine if name.endswith(".safetensors")]
    for folder in sorted(folders):
        if f"{folder}/pytorch_model.bin".lstrip("/") in names and folder not in map(_folder, weights):
            raise ValueError(
                f"{origin} has weights as pytorch_model.bin only; choose a revision or model with safetensors"
            )
    if not weights:
        raise ValueError(f"{origin} has no weights: no safetensors in the folders that {MODULES} names")
    files |= get(weights)
    with whole_folder(into) as made:
        for name, path in files.items():
            origin.place(path, made / name)
        (made / PROVENANCE).write_text(json.dumps(provenance, indent=1), encoding="utf-8")


def _folders(origin: _Origin, modules: Any) -> set[str]:
    """The folders that the listed modules lie in, "" for the top; each module is one of the library's own."""
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ValueError(f"{origin}: {MODULES} lists no modules")
    for module in modules:
        if not str(module.get("type")).startswith(LIBRARY):
            raise ValueError(
                f"{origin}: {MODULES} asks for {module.get('type')!r}, which is no module of "
                "sentence-transformers and is never run; choose another model"
            )
        if not set(PurePosixPath(str(module.get("path", ""))).parts).isdisjoint({"..", "/"}):
            raise ValueError(f"{origin}: {MODULES} leads outside its folder ({module['path']!r})")
    return {"", *(str(module.get("path", "")).strip("/") for module in modules)}


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _json(origin: _Origin, path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{origin}: {path.name} is not JSON: {error}") from error


def _settings(origin: _Origin, path: Path) -> dict[str, Any]:
    found = _json(origin, path)
    return found if isinstance(found, dict) else {}
