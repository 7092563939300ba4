"""Fetching of models from the Hub or a folder, as files that a job can load without a network.

What arrives is data only: configuration, tokenizer.json and safetensors. Weights that exist as
pytorch_model*.bin alone are converted here, once; a tokenizer without tokenizer.json is converted here, once;
a model that brings code of its own is refused.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aftershock.lm.files.convert import SHARD_BYTES, convert
from aftershock.lm.files.fetch_gguf import take_gguf
from aftershock.lm.files.folders import (
    INDEX,
    PROVENANCE,
    QUANTISED_WEIGHTS,
    SINGLE,
    UNQUANTISED,
    quantisation_of,
)
from aftershock.lm.files.hashes import sha256_of, sha256_of_weights
from aftershock.lm.files.hub import Repository, find_repository, place
from aftershock.output import whole_folder

BIN, BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
SETTINGS = ("config.json", "generation_config.json", "chat_template.jinja")
TOKENIZER = (
    "tokenizer",
    "vocab",
    "merges.txt",
    "special_tokens_map",
    "added_tokens",
    "spiece",
    "sentencepiece",
)
ENDINGS = (".json", ".txt", ".model")


class _Origin(Protocol):
    """Protocol of the source of a model's files."""

    @property
    def names(self) -> Sequence[str]:
        """The names of all its files."""

    @property
    def place(self) -> Callable[[Path, Path], object]:
        """The function that links or copies a file to its destination."""

    def get(self, names: Iterable[str]) -> dict[str, Path]:
        """The local paths of files, fetched where needed."""

    def provenance(self) -> dict[str, str]:
        """Identification of the files: hub id and commit, or folder."""


def fetch(
    source: Mapping[str, str],
    into: Path,
    check: Callable[[str | None], object] = str,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Make the folder `into`: a model's configuration, tokenizer.json, safetensors and provenance.json.

    `source` is {hub: id, revision: commit, tag or branch} or {path: folder}; one with a `gguf` is described
    at `fetch_gguf.take_gguf`. `check` is given the configuration's model_type, before any weights are fetched
    but for those inside a GGUF file, and raises for a model that cannot be used.
    The folder appears whole; what has arrived from the Hub when a run is killed lies in a hidden folder
    beside it, where the next run goes on. provenance.json says the commit that the revision stood for and the
    sha256 of the weights. ValueError says what a source lacks, and what it has that is not taken.
    """
    repository = find_repository(source["hub"], source["revision"]) if "hub" in source else None
    work = into.with_name(f".{into.name}.{repository.commit[:12] if repository else 'here'}.fetching")
    with whole_folder(into) as folder:
        if "gguf" in source:
            take_gguf(source, repository, work, folder, check)
        else:
            origin: _Origin = _Remote(repository, work) if repository else _Folder(Path(source["path"]))
            _take(origin, folder, check, shard_bytes)
    for unfinished in into.parent.glob(f".{into.name}.*.fetching"):
        shutil.rmtree(unfinished)


class _Folder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = sorted(file.name for file in folder.glob("*") if file.is_file())
        self.place = shutil.copyfile

    def __str__(self) -> str:
        return str(self.folder)

    def get(self, names: Iterable[str]) -> dict[str, Path]:
        missing = sorted(set(names) - set(self.names))
        if missing:
            raise ValueError(f"{self} lacks {', '.join(missing)}, which its index names")
        return {name: self.folder / name for name in names}

    def provenance(self) -> dict[str, str]:
        return {"path": str(self.folder)}


@dataclass(frozen=True)
class _Remote:
    repository: Repository
    work: Path

    def __str__(self) -> str:
        return str(self.repository)

    @property
    def names(self) -> list[str]:
        return sorted(name for name in self.repository.sha256 if "/" not in name)

    @property
    def place(self) -> Callable[[Path, Path], object]:
        return place

    def get(self, names: Iterable[str]) -> dict[str, Path]:
        missing = sorted(set(names) - set(self.names))
        if missing:
            raise ValueError(f"{self} lacks {', '.join(missing)}, which its index names")
        return self.repository.download(names, self.work)

    def provenance(self) -> dict[str, str]:
        repository = self.repository
        return {"hub": repository.hub, "revision": repository.revision, "commit": repository.commit}


def _take(origin: _Origin, into: Path, check: Callable[[str | None], object], shard_bytes: int) -> None:
    """Put the needed files of `origin` into the folder `into`; small ones, which may be refused, first."""
    if "config.json" not in origin.names:
        raise ValueError(f"{origin} is no model: it has no config.json")
    small = [name for name in origin.names if name in SETTINGS or _of_tokenizer(name)]
    for name, path in origin.get(small).items():
        origin.place(path, into / name)
    for name in ("config.json", "tokenizer_config.json"):
        _refuse_code(origin, into / name)
    settings = _read(into / "config.json")
    if found := quantisation_of(settings, origin.names):
        raise ValueError(f"{origin} {QUANTISED_WEIGHTS} ({found}): {UNQUANTISED}")
    check(settings.get("model_type"))
    if not (into / "tokenizer.json").is_file():
        _make_tokenizer(origin, into)
    names = _weights(origin)
    files = origin.get(names)
    bins = [name for name in names if name.endswith(".bin")]
    about: dict[str, Any] = origin.provenance()
    if bins:
        convert([files[name] for name in bins], into, shard_bytes)
        about["converted"] = {name: sha256_of(files[name]) for name in bins}
    else:
        for name, path in files.items():
            origin.place(path, into / name)
    about["weights_sha256"] = sha256_of_weights(into)
    (into / PROVENANCE).write_text(json.dumps(about, indent=1), encoding="utf-8")


def _of_tokenizer(name: str) -> bool:
    return name.startswith(TOKENIZER) and name.endswith(ENDINGS)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no object")
    return found


def _refuse_code(origin: _Origin, path: Path) -> None:
    if path.is_file() and (code := _read(path).get("auto_map")):
        names = ", ".join(sorted(map(str, code)))
        raise ValueError(
            f"{origin}: {path.name} asks for code that comes with the model (auto_map: {names}), which is "
            "never run; choose a revision or a model that transformers knows by itself"
        )


def _weights(origin: _Origin) -> list[str]:
    """The files that hold the weights, and their index; safetensors where there are any."""
    for single, index in ((SINGLE, INDEX), (BIN, BIN_INDEX)):
        if single in origin.names:
            return [single]
        if index in origin.names:
            listed = _read(origin.get([index])[index]).get("weight_map")
            named = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
            if not named or not all(name.endswith(Path(single).suffix) for name in named):
                raise ValueError(f"{origin}: {index} names no weights of its kind")
            return [index, *named]
    raise ValueError(
        f"{origin} has no weights: none of {SINGLE}, {INDEX}, {BIN} and {BIN_INDEX}; choose a revision or a "
        "folder that has"
    )


def _make_tokenizer(origin: _Origin, into: Path) -> None:
    """Write tokenizer.json from the files of an older tokenizer."""
    from aftershock.lm.texts.tokenizer_files import convert_tokenizer

    try:
        convert_tokenizer(into).save(str(into / "tokenizer.json"))
    except ValueError as error:
        raise ValueError(str(error).replace(str(into), str(origin), 1)) from error
