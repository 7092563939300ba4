"""Keys and values that several passes start from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class FrozenCache(DynamicCache):
    """Keys and values that a pass reads and does not add to: several passes start from the same ones.

    Those of the running tokens are `made`, by layer, unless `forget`.
    """

    def __init__(self, past: Sequence[tuple[Tensor, Tensor]] = (), forget: bool = False) -> None:
        super().__init__()
        self.past, self.forget = past, forget
        self.made: dict[int, tuple[Tensor, Tensor]] = {}

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions that are kept; the layers that no pass runs keep none of their width."""
        return self.past[layer_idx][0].shape[-2] if self.past else 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The kept keys and values with those of the running tokens after them."""
        if not self.forget:
            self.made[layer_idx] = key_states, value_states
        if not self.past:
            return key_states, value_states
        keys, values = self.past[layer_idx]
        return (
            torch.cat([keys.to(key_states), key_states], dim=-2),
            torch.cat([values.to(value_states), value_states], dim=-2),
        )
