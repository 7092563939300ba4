"""Second moments that somebody has published: the .npz files of ROME's and MEMIT's release, from the Hub."""

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig

from aftershock.lm.hub import find_repository, place
from aftershock.output import whole_folder

LAYER = "{layer}"
SUM, COUNT, DOCUMENTS = "mom2.mom2", "mom2.count", "sample_size"
ASYMMETRY = 1e-3  # of a sum of k k^T in float32, relative to its size


@dataclass(frozen=True)
class Published:
    """The sum of k k^T over the tokens of a sample of documents."""

    total: Tensor  # (d_in, d_in), float64
    tokens: int
    documents: int  # 0 where the file does not say


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


def read_published(path: Path, width: int) -> Published:
    """Read one layer's file; ValueError when it holds no second moments of `width` dimensions.

    `mom2.mom2` is the sum of k k^T, `mom2.count` the number of tokens. Nothing in the file is run.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            if lacking := {SUM, COUNT} - set(file.files):
                raise ValueError(f"it lacks {', '.join(sorted(lacking))}; it has {', '.join(file.files)}")
            total = torch.from_numpy(np.array(file[SUM], dtype=np.float64))
            tokens = int(file[COUNT])
            documents = int(file[DOCUMENTS]) if DOCUMENTS in file.files else 0
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no second moments as ROME's release has them: {error}") from error
    if total.shape != (width, width):
        raise ValueError(
            f"{path} has second moments of shape {tuple(total.shape)}, and the model needs "
            f"({width}, {width}); name the file of this model"
        )
    if tokens < 2 or not bool(total.isfinite().all()) or bool((total.diagonal() < 0).any()):
        raise ValueError(f"{path}: a sum over {tokens} tokens that is negative, not finite, or of too few")
    if (total - total.T).norm() > ASYMMETRY * total.norm():
        raise ValueError(f"{path}: second moments are symmetric, and these are not")
    return Published(total, tokens, documents)


def key_width(weights: str | Path) -> int:
    """Return d_in of the MLP output projections of the model in a folder, as its config.json says."""
    config = AutoConfig.from_pretrained(weights, local_files_only=True, trust_remote_code=False)
    return (
        getattr(config, "intermediate_size", None)
        or getattr(config, "n_inner", None)
        or 4 * config.hidden_size
    )
