"""Vectors of texts, by which those are found that are about the same: a model's own, or an encoder's."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aftershock.lm.label_encoder import SentenceEncoder
from aftershock.lm.model import LanguageModel

EMBEDDINGS = "embeddings"
Encode = Callable[[Sequence[str]], Tensor]
"""Vectors of norm one in float64, (texts, d). A text's vector does not depend on the others."""


def text_encoder(lm: LanguageModel, name: str = EMBEDDINGS) -> Encode:
    """Return what encodes texts: the input embeddings of `lm`, or the sentence encoder in a folder."""
    if name == EMBEDDINGS:
        return partial(_mean_embeddings, lm)
    return partial(_sentences, name)


def _mean_embeddings(lm: LanguageModel, texts: Sequence[str]) -> Tensor:
    """Mean input embedding of each text's tokens, less the mean of the vocabulary."""
    table = lm.model.get_input_embeddings().weight
    middle = table.mean(dim=0, dtype=torch.float64)
    rows = lm.tokenize(texts, add_special_tokens=False)["input_ids"] if texts else []
    means = [table[torch.tensor(ids, device=table.device)].double().mean(dim=0) - middle for ids in rows]
    vectors = torch.stack(means) if means else table.new_zeros(0, table.shape[1]).double()
    return torch.nn.functional.normalize(vectors, dim=1).cpu()


def _sentences(folder: str, texts: Sequence[str]) -> Tensor:
    return _load(folder).within(texts)(texts).double().cpu()


def load_artifact(path: str | Path, *_: Any) -> str:
    """Return the folder of the sentence encoder, as `text_encoder` takes it."""
    return str(path)


@cache
def _load(folder: str) -> SentenceEncoder:
    return SentenceEncoder(folder)
