"""Second moments of what enters the edited matrices: C = E[k k^T] over a text, not centred.

Editors weigh a change by how often the model uses a direction. The numbers hold for one model and one text:
both are named in the file by their hashes, and a file of another model or text is an error.
"""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from aftershock.lm.hooks import batches, watch
from aftershock.lm.model import LanguageModel
from aftershock.output import whole_file

BATCH_TOKENS = 4096
VECTORS_PER_DIMENSION = 200
"""Tokens sampled for each dimension of a second moment; 2 to 10 are enough (Li et al., 2025, FastMEMIT)."""


@dataclass(frozen=True)
class Moment:
    """C of one layer's MLP output projection, (d_in, d_in), and the number of tokens it is the mean of."""

    matrix: Tensor
    count: int


def sample_documents(
    lm: LanguageModel, documents: Sequence[str], layers: Sequence[int], seed: int = 0
) -> list[str]:
    """Documents drawn without repeat until they hold VECTORS_PER_DIMENSION tokens per dimension."""
    wanted = VECTORS_PER_DIMENSION * max(lm.weight(lm.projection(layer)).shape[1] for layer in layers)
    order = random.Random(seed).sample(range(len(documents)), len(documents))
    chosen: list[str] = []
    for start in range(0, len(order), 1000):
        some = [documents[i] for i in order[start : start + 1000]]
        for document, ids in zip(some, lm.encode(some), strict=True):
            if wanted <= 0:
                return chosen
            chosen.append(document)
            wanted -= min(len(ids), lm.context)
    return chosen


@torch.no_grad()
def second_moments(lm: LanguageModel, documents: Iterable[str], layers: Sequence[int]) -> dict[int, Moment]:
    """C of all `layers` from one pass over `documents`, each cut to the model's context.

    Products are float32, their sum over batches float64, the result float32.
    """
    encoded = sorted((ids[: lm.context] for ids in lm.encode(list(documents)) if ids), key=len)
    if not encoded:
        raise ValueError("second moments need text, but every document is empty")
    names = {layer: lm.projection(layer) for layer in sorted(set(layers))}
    last = lm.layer(max(names))
    sums: dict[int, Tensor] = {}
    for chosen in batches([len(ids) for ids in encoded], BATCH_TOKENS):
        ids, mask = lm.pad(encoded[chosen.start : chosen.stop])
        with watch(lm, inputs=list(names.values()), stop=last) as seen:
            lm.run(ids, mask, use_cache=False)
        for layer, name in names.items():
            k = seen["in", name][mask.bool()].float()
            sums[layer] = sums.get(layer, 0.0) + (k.T @ k).double()
    count = sum(map(len, encoded))
    return {layer: Moment((total / count).float(), count) for layer, total in sums.items()}


def save_moments(
    moments: Mapping[int, Moment], path: str | Path, weights_sha256: str, text_sha256: str
) -> None:
    """Write `moments`, whole or not at all, with the hashes of the model and the text they are of."""
    tensors = {}
    for layer, moment in moments.items():
        tensors[f"moment.{layer}"] = moment.matrix.cpu().contiguous()
        tensors[f"count.{layer}"] = torch.tensor(moment.count)
    with whole_file(path) as part:
        save_file(tensors, part, metadata={"weights_sha256": weights_sha256, "text_sha256": text_sha256})


def load_moments(
    path: str | Path, layers: Sequence[int] | None, weights_sha256: str, text_sha256: str | None = None
) -> dict[int, Moment]:
    """The moments of `layers`, None for all; ValueError when the file is of another model or lacks a layer.

    The text's hash is compared where it is given: an editor has no need of the text.
    """
    with safe_open(path, framework="pt") as file:
        found = file.metadata() or {}
        for name, wanted in (("weights_sha256", weights_sha256), ("text_sha256", text_sha256)):
            if wanted is not None and found.get(name) != wanted:
                raise ValueError(
                    f"{path} was made with {name} {found.get(name)}, not {wanted}; delete it and run again"
                )
        names = list(file.keys())
        stored = {int(key.removeprefix("moment.")) for key in names if key.startswith("moment.")}
        layers = sorted(stored) if layers is None else layers
        missing = sorted(set(layers) - stored)
        if missing:
            raise ValueError(f"{path} has no moments of layers {missing}; delete it and run again")
        return {
            layer: Moment(file.get_tensor(f"moment.{layer}"), int(file.get_tensor(f"count.{layer}")))
            for layer in layers
        }


def sha256_of_weights(folder: str | Path) -> str:
    """One hash of all safetensors files of a model folder, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        with open(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()
