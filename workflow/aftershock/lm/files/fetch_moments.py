"""Fetching published second moments: one .npz file for each layer from a repository of the Hub."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aftershock.lm.files.hub import find_repository, place
from aftershock.output import whole_folder

LAYER = "{layer}"


def fetch_moments(source: Mapping[str, Any], layers: Sequence[int], into: Path) -> None:
    """Make the folder `into`: a file `{layer}.npz` for each of `layers`, from a repository of the Hub.

    `source` is {hub: id, file: name with {layer} in it}, and perhaps {revision: commit, tag or branch; main
    without} and {kind: dataset}. ValueError names the files that the repository lacks.
    """
    if LAYER not in source["file"] and len(layers) > 1:
        raise ValueError(
            f"moments.file: {source['file']!r} is one file, and layers {list(layers)} need one each: write "
            f"{LAYER} where its name has the layer"
        )
    names = {layer: source["file"].replace(LAYER, str(layer)) for layer in layers}
    repository = find_repository(source["hub"], source.get("revision", "main"), source.get("kind", "model"))
    if missing := sorted(set(names.values()) - set(repository.sha256)):
        there = sorted(name for name in repository.sha256 if name.endswith(".npz"))
        raise ValueError(
            f"{repository} has no file {', '.join(missing)}; its .npz files: {', '.join(there[:8]) or 'none'}"
        )
    work = into.with_name(f".{into.name}.{repository.commit[:12]}.fetching")
    paths = repository.download(names.values(), work)
    with whole_folder(into) as folder:
        for layer, name in names.items():
            place(paths[name], folder / f"{layer}.npz")
    for unfinished in into.parent.glob(f".{into.name}.*.fetching"):
        shutil.rmtree(unfinished)
