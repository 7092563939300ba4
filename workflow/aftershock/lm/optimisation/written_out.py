"""Upper layers as one operation, with its derivative written out by hand: what all architectures share.

On a small model most of a pass goes to calling modules and to recording and following each operation for the
gradient, not to products. Written out, a pass also leaves out what nothing looks at: tokens after the last
one of a text that is read, the last layer at all that are not read, and gradients of kept keys and values.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.attention import takes_few_queries


class WrittenOut(ABC):
    """Passes of `layers` over the same tokens, which differ in each text's first token alone.

    `hidden` (rows, seq, d) enters the first of `layers`; `past` are the keys and values that each layer
    keeps, (rows, heads, P, width), and `masks` theirs, (rows, 1, seq, P + seq). Hidden states are returned
    of the tokens `read`, indices in rows * seq.

    Products are of the T tokens that these depend on: those up to the last one of each text that is read.
    Attention is of all.
    """

    def __init__(
        self,
        lm: LanguageModel,
        layers: Sequence[Any],
        hidden: Tensor,
        past: Sequence[tuple[Tensor, Tensor]],
        masks: Sequence[Tensor],
        positions: Tensor,
        read: Tensor,
    ) -> None:
        self.layers, self.norm = layers, lm.model.get_submodule(lm.family.norm)
        self.hidden, self.past, self.masks, self.positions = hidden, past, masks, positions
        self.read = read  # in rows * seq
        self._run, self.firsts, self.places = _needed(hidden.shape[0], hidden.shape[1], read)
        if self._run is not None:
            count = hidden.shape[0] * hidden.shape[1]
            self._from = torch.zeros(count, dtype=torch.long, device=hidden.device)
            self._from[self._run] = torch.arange(len(self._run), device=hidden.device)
            others = torch.ones(count, dtype=torch.bool, device=hidden.device).index_fill_(
                0, self._run, False
            )
            self._others = others.nonzero()[:, 0]
        self._entering = self.packed(hidden.flatten(0, 1))
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
        read: Tensor,
    ) -> "WrittenOut | None":
        """Return the layers above `after`.

        None where they are of another kind or not on a processor, and where texts are long after the subject.
        """
        numbers = range(after + 1, lm.n_layers)
        layers = [lm.model.get_submodule(lm.layer(number)) for number in numbers]
        on_processor = lm.device.type == "cpu" and lm.precision == "strict"
        if not layers or not on_processor or not takes_few_queries(lm, hidden.shape[1]):
            return None
        if lm.model.config._attn_implementation != "sdpa" or not cls.knows(lm, layers):
            return None
        if isinstance(mask, dict):
            masks = [mask[lm.model.config.layer_types[number]] for number in numbers]
        else:
            masks = [mask] * len(layers)
        return cls(lm, layers, hidden, past[after + 1 :], masks, positions, read)

    @staticmethod
    @abstractmethod
    def knows(lm: LanguageModel, layers: Sequence[Any]) -> bool:
        """Return whether `layers` are of this kind."""

    @abstractmethod
    def prepare(self, lm: LanguageModel) -> None:
        """Make what is the same in every pass."""

    @abstractmethod
    def forward(self, entered: Tensor) -> tuple[Tensor, Any]:
        """Return normed hidden states of the tokens that are read, and what `backward` needs of them."""

    @abstractmethod
    def backward(self, slope: Tensor, entered: Tensor, kept: Any) -> Tensor:
        """Return the gradient at `entered`, (rows, d), of that at what `forward` returned; changes `kept`."""

    def tokens(self, entered: Tensor) -> Tensor:
        """Return the hidden states of the T tokens, first ones as `entered`, (T, d)."""
        hidden = self._entering.clone()
        hidden[self.firsts] = entered
        return hidden

    def packed(self, rows: Tensor) -> Tensor:
        """Return those of the T tokens, of `rows` of all tokens."""
        return rows if self._run is None else rows.index_select(0, self._run)

    def padded(self, rows: Tensor) -> Tensor:
        """Return rows of all tokens, with those of the T tokens as `rows`; no token sees what others hold."""
        return rows if self._run is None else rows.index_select(0, self._from)

    def padded_slope(self, rows: Tensor) -> Tensor:
        """Return gradients at all tokens, with those at the T tokens as `rows` and 0 at others."""
        return rows if self._run is None else self.padded(rows).index_fill_(0, self._others, 0.0)

    def spread(self, rows: Tensor, places: Tensor) -> Tensor:
        """Return rows of all tokens that are 0 but for `rows` at `places`."""
        return spread_rows(rows, places, self.hidden.shape[0] * self.hidden.shape[1])

    @property
    def is_plain(self) -> bool:
        """True while nothing is attached to a module of these layers."""
        return not any(
            m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in self._modules
        )

    def __call__(self, first: Tensor) -> Tensor:
        """Return hidden states after the final norm of the tokens that are read, in their order, (n, d).

        `first` (rows, d) enters at the first tokens.
        """
        return _Passes.apply(first, self)


class _Passes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, entered: Tensor, passes: WrittenOut) -> Tensor:
        normed, ctx.kept = passes.forward(entered)
        ctx.save_for_backward(entered)
        ctx.passes = passes
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (entered,) = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None  # which is overwritten
        return ctx.passes.backward(gradients[0], entered, kept), None


def _needed(rows: int, seq: int, read: Tensor) -> tuple[Tensor | None, Any, Tensor]:
    """Return which tokens are run, or None for all; among these the first ones, and those `read`."""
    last = read.new_zeros(rows).scatter_reduce(0, read // seq, read % seq, "amax")
    run = (torch.arange(seq, device=read.device) <= last[:, None]).flatten()
    if bool(run.all()):
        return None, slice(None, None, seq), read
    order = run.cumsum(0) - 1
    return run.nonzero()[:, 0], order[::seq], order[read]


def spread_rows(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """Return `count` rows that are 0 but for `rows` at `places`."""
    return rows.new_zeros(count, rows.shape[1]).index_copy_(0, places, rows)
