"""Statements of which a prompt gets the nearest: retrieval over all that was written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from aftershock.lm.edits.context import Context, unpack_texts
from aftershock.lm.edits.delta import register
from aftershock.lm.model import LanguageModel
from aftershock.lm.text_encoder import EMBEDDINGS, text_encoder

DIGITS = 6  # of a similarity that count, so that rounding decides nothing


@register
@dataclass(frozen=True)
class Index(Context):
    """Statements with keys: a prompt gets the `nearest` ones of its case that are similar to it.

    Similarity is the cosine of the prompt's vector and a statement's key, both made by `encoder`; it has to
    reach `threshold`. It is decided once for a prompt, from the prompt alone, whatever follows. Of statements
    equally near the newer one counts as nearer. The nearest is the last one before the prompt, or the first
    of all with `newest_first`, and gives way last where there is little room. A prompt without a similar
    statement is read as it stands.
    """

    keys: Tensor | None = None  # (B, F, d), of norm one
    nearest: int = 1
    threshold: float = 0.0
    encoder: str = EMBEDDINGS

    @classmethod
    def of_keys(
        cls,
        statements: Sequence[Sequence[str]],
        keys: Sequence[Tensor],
        examples: Sequence[Sequence[str]],
        **more: Any,
    ) -> Self:
        """The index of `statements[i]`, whose keys are the rows of `keys[i]`, for each case i."""
        padded = torch.nn.utils.rnn.pad_sequence(list(keys), batch_first=True)
        return cls.of(statements, examples, keys=padded, **more)

    def choose(self, lm: LanguageModel, asked: Sequence[tuple[str, int]]) -> Sequence[Sequence[str]]:
        """The statements near each prompt, the nearest last."""
        texts = list(dict.fromkeys(prompt for prompt, _ in asked))
        vectors = dict(zip(texts, text_encoder(lm, self.encoder)(texts), strict=True))
        chosen = [self._nearest(vectors[prompt], case) for prompt, case in asked]
        return [
            unpack_texts(self.texts[case, places][None], self.sizes[case, places][None])[0]
            for places, (_, case) in zip(chosen, asked, strict=True)
        ]

    def _nearest(self, vector: Tensor, case: int) -> list[int]:
        """The places of the statements that a prompt of this vector gets, the nearest last."""
        assert self.keys is not None
        similar = (self.keys[case].cpu().double() * vector).sum(dim=1).round(decimals=DIGITS)  # (F,)
        able = (self.sizes[case].cpu() > 0) & (similar >= self.threshold)
        ranked = sorted(able.nonzero()[:, 0].tolist(), key=lambda place: (similar[place].item(), place))
        return ranked[-self.nearest :]

    def _joined(self, earlier: Self) -> dict[str, Tensor]:
        assert earlier.keys is not None
        assert self.keys is not None
        return {**super()._joined(earlier), "keys": torch.cat([earlier.keys, self.keys], dim=1)}
