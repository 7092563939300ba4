"""Retrieval of the statements nearest to each prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from aftershock.lm.edits.context import Context, unpack_texts
from aftershock.lm.edits.delta import register
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.text_match import TOKENS, matcher_of

DIGITS = 6  # decimals of a similarity that count, so that rounding decides nothing


@register
@dataclass(frozen=True)
class Index(Context):
    """Statements with keys: a prompt gets the `nearest` ones of its case that are similar to it.

    `matcher` made the keys and compares prompts with them; a similarity has to reach `threshold`. It is
    decided once for a prompt, from the prompt alone, whatever follows. Of statements equally near the newer
    one counts as nearer. The nearest is the last one before the prompt, or the first of all with
    `newest_first`, and gives way last where there is little room. A prompt without a similar statement is
    read as it stands.
    """

    keys: Tensor | None = None  # (B, F, ...), of the kind that the matcher makes
    nearest: int = 1
    threshold: float = 0.0
    matcher: str = TOKENS

    def choose(self, lm: LanguageModel, asked: Sequence[tuple[str, int]]) -> Sequence[Sequence[str]]:
        """The statements near each prompt, the nearest last."""
        assert self.keys is not None
        matcher, keys, sizes = matcher_of(lm, self.matcher), self.keys.cpu(), self.sizes.cpu()
        found = []
        for prompt, case in asked:
            similar = matcher.similarities(prompt, keys[case]).round(decimals=DIGITS)  # (F,)
            able = ((sizes[case] > 0) & (similar >= self.threshold)).nonzero()[:, 0].tolist()
            by_similarity = sorted(zip(similar[able].tolist(), able, strict=True))
            ranked = [place for _, place in by_similarity[-self.nearest :]]
            found += unpack_texts(self.texts[case, ranked][None], self.sizes[case, ranked][None])
        return found

    def _joined(self, earlier: Self) -> dict[str, Tensor]:
        assert earlier.keys is not None
        assert self.keys is not None
        both = [earlier.keys, self.keys]
        width = max(keys.shape[-1] for keys in both)  # of token ids, padded as TokenMatcher does
        keys = [torch.nn.functional.pad(keys, (0, width - keys.shape[-1]), value=-1) for keys in both]
        return {**super()._joined(earlier), "keys": torch.cat(keys, dim=1)}
