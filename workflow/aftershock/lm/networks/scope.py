"""Scope classifiers: similarity of a prompt and an edit (Mitchell et al., 2022, SERAC).

A prompt and the key of an edit, a text as well, are each read by one encoder. Their similarity is
exp(-scale * distance), and 1 for equal texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from aftershock.lm.hooks import batches
from aftershock.lm.model import LanguageModel

TOKENS = 4096  # that are encoded together
Distance = Literal["square", "plain", "cosine"]
"""|a - b|^2, |a - b|, or 1 - cos(a, b)."""


class Encoder(Protocol):
    """The model that makes vectors of texts."""

    @property
    def separator(self) -> str:
        """The text that its tokenizer puts between two others; empty where it has none."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Vectors of `texts`, (texts, width); one does not depend on the others."""


@dataclass(frozen=True)
class LastTokenEncoder:
    """Hidden states of a causal model, after its final norm, at the last tokens of texts."""

    lm: LanguageModel

    @property
    def separator(self) -> str:
        """The tokenizer's separator, which few causal models have."""
        return self.lm.tokenizer.sep_token or ""

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Vectors of `texts`, (texts, d_model)."""
        rows = self.lm.encode(texts)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found = torch.zeros(len(rows), self.lm.d_model, dtype=self.lm.dtype, device=self.lm.device)
        for part in batches([len(rows[i]) for i in order], TOKENS):
            chosen = [order[i] for i in part]
            ids, mask = self.lm.pad([rows[i] for i in chosen])
            hidden = self.lm.run(ids, mask, use_cache=False)
            found[chosen] = hidden[torch.arange(len(chosen), device=ids.device), mask.sum(dim=1) - 1]
        return found


@dataclass(frozen=True)
class ScopeClassifier:
    """An encoder, a projection of its vectors, and the distance between these."""

    encoder: Encoder
    scale: Tensor  # ()
    projection: Tensor | None = None  # (d, width of the encoder); None for its vectors as they are
    distance: Distance = "square"
    heads: int = 1
    """Number of parts of a vector whose distances are taken separately; the smallest one counts."""
    bound: bool = False
    """True if vectors pass through tanh."""

    def embed(self, texts: Sequence[str]) -> Tensor:
        """The vectors of `texts`, (texts, d)."""
        found = self.encoder(texts)
        return found if self.projection is None else found @ self.projection.T

    def log_similarity(self, x: Tensor, keys: Tensor) -> Tensor:
        """Logarithm of the similarity of vectors `x` (..., d) and `keys` (..., d), which broadcast."""
        return -self.scale * distance(x, keys, self.distance, self.heads, self.bound)


def distance(x: Tensor, keys: Tensor, kind: Distance, heads: int = 1, bound: bool = False) -> Tensor:
    """The least distance of any head between vectors `x` (..., d) and `keys` (..., d), which broadcast."""
    if bound:
        x, keys = x.tanh(), keys.tanh()
    x, keys = (vectors.unflatten(-1, (heads, -1)) for vectors in (x, keys))
    if kind == "cosine":
        norms = x.norm(dim=-1) * keys.norm(dim=-1)
        found = (1 - (x * keys).sum(dim=-1) / norms).clamp(min=0.0)  # rounding could make it negative
    elif kind == "square":
        found = (x - keys).square().sum(dim=-1)
    else:
        found = (x - keys).norm(dim=-1)
    return found.min(dim=-1).values
