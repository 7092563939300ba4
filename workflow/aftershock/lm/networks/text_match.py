"""Similarity of a prompt and the keys of facts: by tokens of the model itself, or by a sentence encoder.

A matcher makes keys of texts, tensors that are kept with the facts, and compares a prompt with keys. What it
makes of a prompt depends on the prompt alone.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.label_encoder import SentenceEncoder
from aftershock.prompts import following

TOKENS = "tokens"
NO_TOKEN = -1


class Matcher(Protocol):
    """A measure of how alike prompts and keys are."""

    def keys(self, rows: Sequence[Sequence[str]]) -> Tensor:
        """The keys of rows of texts, (rows, texts, ...), padded behind shorter rows."""

    def similarities(self, prompt: str, keys: Tensor) -> Tensor:
        """The similarity of a prompt and each of the keys (texts, ...), at most 1, (texts,), float64."""


def matcher_of(lm: LanguageModel, name: str = TOKENS) -> Matcher:
    """Return the matcher by the tokens of `lm`, or by the sentence encoder in the folder `name`."""
    return TokenMatcher(lm) if name == TOKENS else SentenceMatcher(_load(name))


class TokenMatcher:
    """Late interaction of input embeddings, as ColBERT scores passages (Khattab and Zaharia, 2020).

    Each token of a key counts with the cosine of the token of the prompt that is most alike; their mean is
    the similarity, 1 where the prompt holds all of the key's tokens. Embeddings are taken less the mean of
    the vocabulary. A key is read at the beginning of a text and behind a space, and the better one counts.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.table = lm.model.get_input_embeddings().weight
        self.middle = self.table.mean(dim=0, dtype=torch.float64)

    def keys(self, rows: Sequence[Sequence[str]]) -> Tensor:
        """Token ids of each text as it stands and behind a space, (rows, texts, 2, tokens)."""
        read = [[self._ids([text, following("", text)]) for text in row] for row in rows]
        most = max(map(len, read), default=0)
        width = max((len(ids) for row in read for both in row for ids in both), default=0)
        keys = torch.full((len(rows), most, 2, width), NO_TOKEN)
        for i, row in enumerate(read):
            for j, both in enumerate(row):
                for place, ids in enumerate(both):
                    keys[i, j, place, : len(ids)] = torch.tensor(ids)
        return keys

    def similarities(self, prompt: str, keys: Tensor) -> Tensor:
        """The similarity of a prompt and each of the keys (texts, 2, tokens), at most 1, (texts,)."""
        ids = torch.tensor(self._ids([prompt])[0], dtype=torch.long)
        if not len(ids) or not keys.numel():
            return torch.full((len(keys),), -1.0, dtype=torch.float64)
        distinct, places = keys.unique(return_inverse=True)  # far fewer than there are places
        best = (self._vectors(distinct.clamp(min=0)) @ self._vectors(ids.unique()).T).amax(dim=1)
        there = keys != NO_TOKEN
        sums = (best[places] * there).sum(dim=2)
        return torch.where(there.any(dim=2), sums / there.sum(dim=2).clamp(min=1), -1.0).amax(dim=1)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.lm.tokenize(texts, add_special_tokens=False)["input_ids"]

    def _vectors(self, ids: Tensor) -> Tensor:
        rows = self.table[ids.to(self.table.device)].double() - self.middle
        return normalize(rows, dim=1).cpu()


class SentenceMatcher:
    """Cosines of the vectors that a sentence encoder makes of whole texts."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder

    def keys(self, rows: Sequence[Sequence[str]]) -> Tensor:
        """Vectors of norm one, (rows, texts, d)."""
        made = [self._encode(row) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(made, batch_first=True)

    def similarities(self, prompt: str, keys: Tensor) -> Tensor:
        """Cosine of a prompt and each of the keys (texts, d), (texts,)."""
        return (keys.double() * self._encode([prompt])[0]).sum(dim=1)

    def _encode(self, texts: Sequence[str]) -> Tensor:
        return self.encoder.within(texts)(texts).double().cpu()


def load_artifact(path: str | Path, *_: Any) -> str:
    """Return the folder of the sentence encoder, as `matcher_of` takes it."""
    return str(path)


@cache
def _load(folder: str) -> SentenceEncoder:
    return SentenceEncoder(folder)
