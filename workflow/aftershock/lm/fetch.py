"""Models from the Hub or from a folder, as files that a job can load without a network."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

FILES = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"]
FILES += ["tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json"]


def fetch(source: Mapping[str, str], into: Path) -> None:
    """Put configuration, tokeniser and safetensors of a model into the folder `into`.

    `source` is {hub: id, revision: commit or tag} or {path: folder}. Only safetensors are taken: a model that
    has none is refused with a ValueError, because other formats can run code when they are loaded.
    """
    if "path" in source:
        _copy(Path(source["path"]), into)
    else:
        _download(source["hub"], source["revision"], into)
    if not any(into.glob("*.safetensors")):
        where = source.get("path") or f"{source['hub']} at {source['revision']}"
        raise ValueError(f"{where} holds no safetensors; choose a revision or a folder that does")


def _copy(folder: Path, into: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is not a model folder: it has no config.json")
    for pattern in FILES:
        for file in sorted(folder.glob(pattern)):
            shutil.copyfile(file, into / file.name)


def _download(hub_id: str, revision: str, into: Path) -> None:
    try:
        snapshot_download(hub_id, revision=revision, local_dir=into, allow_patterns=FILES)
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"{hub_id} at revision {revision} cannot be fetched ({error}); check id, revision and network, "
            "or give a folder as `source: {path: ...}`"
        ) from error
    shutil.rmtree(into / ".cache", ignore_errors=True)
