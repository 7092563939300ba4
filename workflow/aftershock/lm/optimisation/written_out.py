"""Upper layers as one operation, with its derivative written out by hand: what all architectures share.

On a small model most of a pass goes to calling modules and to recording and following each operation for the
gradient, not to products. Written out, a pass also leaves out what no later layer looks at: the last layer
is computed at the positions that are read, and kept keys and values have no gradient.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aftershock.lm.model import LanguageModel

ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"  # which torch may rename
attend: Any = getattr(torch.ops.aten, ATTENTION, None)
attend_backward: Any = getattr(torch.ops.aten, f"{ATTENTION}_backward", None)


class WrittenOut(ABC):
    """Passes of `layers` over the same tokens, which differ in each text's first token alone.

    `hidden` (rows, seq, d) enters the first of `layers`; `past` are the keys and values that each layer
    keeps, (rows, heads, P, width), and `masks` theirs, (rows, 1, seq, P + seq).
    """

    def __init__(
        self,
        lm: LanguageModel,
        layers: Sequence[Any],
        hidden: Tensor,
        past: Sequence[tuple[Tensor, Tensor]],
        masks: Sequence[Tensor],
        positions: Tensor,
    ) -> None:
        self.layers, self.norm = layers, lm.model.get_submodule(lm.family.norm)
        self.hidden, self.past, self.masks, self.positions = hidden, past, masks, positions
        self._modules = [module for layer in layers for module in layer.modules()]
        with torch.no_grad():
            self.prepare(lm)

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        after: int,
        hidden: Tensor,
        past: Sequence[tuple[Tensor, Tensor]],
        mask: Any,
        positions: Tensor,
    ) -> "WrittenOut | None":
        """Return the layers above `after`; None where they are of another kind or not on a processor."""
        numbers = range(after + 1, lm.n_layers)
        layers = [lm.model.get_submodule(lm.layer(number)) for number in numbers]
        on_processor = lm.device.type == "cpu" and lm.precision == "strict"
        if not layers or not on_processor or attend is None or attend_backward is None:
            return None
        if lm.model.config._attn_implementation != "sdpa" or not cls.knows(lm, layers):
            return None
        if isinstance(mask, dict):
            masks = [mask[lm.model.config.layer_types[number]] for number in numbers]
        else:
            masks = [mask] * len(layers)
        return cls(lm, layers, hidden, past[after + 1 :], masks, positions)

    @staticmethod
    @abstractmethod
    def knows(lm: LanguageModel, layers: Sequence[Any]) -> bool:
        """Return whether `layers` are of this kind."""

    @abstractmethod
    def prepare(self, lm: LanguageModel) -> None:
        """Make what is the same in every pass."""

    @abstractmethod
    def forward(self, entered: Tensor, read: Tensor) -> tuple[Tensor, Any]:
        """Return normed hidden states of the tokens `read`, and what `backward` needs of them."""

    @abstractmethod
    def backward(self, slope: Tensor, entered: Tensor, read: Tensor, kept: Any) -> Tensor:
        """Return the gradient at `entered`, (rows, d), of that at what `forward` returned; changes `kept`."""

    def tokens(self, entered: Tensor) -> Tensor:
        """Return the hidden states of all tokens, first ones as `entered`, (rows * seq, d)."""
        hidden = self.hidden.clone()
        hidden[:, 0] = entered
        return hidden.flatten(0, 1)

    @property
    def is_plain(self) -> bool:
        """True while nothing is attached to a module of these layers."""
        return not any(
            m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in self._modules
        )

    def __call__(self, first: Tensor, read: Tensor) -> Tensor:
        """Return hidden states after the final norm where they are `read`, 0 elsewhere, (rows, seq, d).

        `first` (rows, d) enters at the first tokens; `read` are indices in rows * seq.
        """
        return _Passes.apply(first, self, read)


class _Passes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, entered: Tensor, passes: WrittenOut, read: Tensor) -> Tensor:
        rows, seq, width = passes.hidden.shape
        normed, ctx.kept = passes.forward(entered, read)
        ctx.save_for_backward(entered, read)
        ctx.passes = passes
        return entered.new_zeros(rows * seq, width).index_copy_(0, read, normed).view(rows, seq, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        entered, read = ctx.saved_tensors
        slope = gradients[0].reshape(-1, entered.shape[1])[read]
        kept, ctx.kept = ctx.kept, None  # which is overwritten
        return ctx.passes.backward(slope, entered, read, kept), None, None


def spread_rows(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """Return `count` rows that are 0 but for `rows` at `places`."""
    return rows.new_zeros(count, rows.shape[1]).index_copy_(0, places, rows)
