"""Reader of published second moments: the .npz files of ROME's and MEMIT's release."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig

SUM, COUNT, DOCUMENTS = "mom2.mom2", "mom2.count", "sample_size"
ASYMMETRY = 1e-3  # of a sum of k k^T in float32, relative to its size


@dataclass(frozen=True)
class Published:
    """The sum of k k^T over the tokens of a sample of documents."""

    total: Tensor  # (d_in, d_in), float64
    tokens: int
    documents: int  # 0 where the file does not say


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
        or getattr(config, "ffn_dim", None)
        or getattr(config, "ffn_hidden_size", None)
        or 4 * config.hidden_size
    )
