"""Cache of the unchanged model's keys and values of shared text beginnings.

Editors read every prompt after the same contexts. The keys and values of a context's tokens do not depend on
the prompt, so that they are computed once for a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache

from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import Located


@dataclass(frozen=True)
class Beginnings:
    """Token ids of B beginnings, the first of which is empty, and their keys and values."""

    ids: tuple[tuple[int, ...], ...]
    kept: tuple[tuple[Tensor, Tensor], ...]  # per layer, each (B, heads, width of the longest, head width)

    @property
    def width(self) -> int:
        """Number of tokens of the longest."""
        return max(map(len, self.ids))

    def before(self, row: Located) -> int:
        """Return the index of the longest one that a text starts with, before its subject's last token."""
        able = [i for i, ids in enumerate(self.ids) if len(ids) <= row.subject]
        return max((i for i in able if row.ids[: len(self.ids[i])] == self.ids[i]), key=self._length)

    def _length(self, i: int) -> int:
        return len(self.ids[i])

    def past(self, which: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values per layer of rows that start with these."""
        return [(keys[which], values[which]) for keys, values in self.kept]


NONE = Beginnings(((),), ())
_last: WeakKeyDictionary[LanguageModel, tuple[tuple, Beginnings]] = WeakKeyDictionary()


def recall(lm: LanguageModel, texts: Sequence[str]) -> Beginnings:
    """Return the beginnings `texts`, computed anew when they or the weights are others than the last time."""
    ids = tuple(dict.fromkeys(tuple(row) for row in lm.encode([text for text in texts if text]) if row))
    if not ids:
        return NONE
    written = sum(weight._version for weight in lm.model.parameters())  # goes up with every change in place
    if lm not in _last or _last[lm][0] != (ids, written):
        _last[lm] = (ids, written), _computed(lm, ids)
    return _last[lm][1]


@torch.no_grad()
def _computed(lm: LanguageModel, ids: tuple[tuple[int, ...], ...]) -> Beginnings:
    cache = DynamicCache()
    lm.run(*lm.pad(ids), past_key_values=cache, use_cache=True)
    kept = [(_behind_nothing(layer.keys), _behind_nothing(layer.values)) for layer in cache.layers]
    return Beginnings(((), *ids), tuple(kept))


def _behind_nothing(rows: Tensor) -> Tensor:
    """Return `rows` after one that is never seen, for texts with no such beginning."""
    return torch.cat([torch.zeros_like(rows[:1]), rows])
