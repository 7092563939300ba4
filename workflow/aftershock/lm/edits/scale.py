"""A change of a norm's scale and shift, as fine-tuning of a whole layer makes it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from aftershock.lm.edits.delta import Batch, register
from aftershock.lm.edits.weights import CaseRows, WeightDelta
from aftershock.lm.model import LanguageModel


@register
@dataclass(frozen=True)
class Scale(WeightDelta):
    """A change of a norm's weight, and of its bias where it has one, for each of B cases."""

    module: str
    weight: Tensor  # (B, d)
    bias: Tensor | None = None  # (B, d)

    @property
    def shape(self) -> tuple[int, ...]:
        """(d,) of the changed weight."""
        return (self.weight.shape[1],)

    def dense(self) -> Tensor:
        """The change of the weight, (B, d)."""
        return self.weight

    def factors(self) -> None:
        """None: a norm has no matrix to factorise."""
        return None

    def _change(self, x: Tensor, rows: CaseRows) -> Tensor:
        """The change of a norm whose output would be `x` (rows, ..., d) with a weight of ones."""
        shape = (len(rows.cases), *[1] * (x.ndim - 2), x.shape[-1])
        added = x * self.weight[rows.cases].view(shape)
        return added if self.bias is None else added + self.bias[rows.cases].view(shape)

    @contextmanager
    def attach(self, lm: LanguageModel, batch: Batch) -> Iterator[None]:
        """Context manager: the norm's output has the row's change added."""
        module = lm.model.get_submodule(self.module)
        device = module.weight.device
        delta, rows = self.to(device), CaseRows(batch.cases.to(device), len(self))
        one, zero = (_with_weight(module, value) for value in (1.0, 0.0))

        def hook(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            normed = one.forward(args[0]) - zero.forward(args[0])  # some norms multiply by 1 + weight
            return output + delta._change(normed.to(delta.dtype), rows)

        handle = module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def without(self, cases: Tensor) -> "Scale":
        """The change with zeros in the cases that are true in `cases` (B,)."""
        gone = cases.to(self.weight.device)[:, None]
        return replace(
            self,
            weight=self.weight.masked_fill(gone, 0.0),
            bias=None if self.bias is None else self.bias.masked_fill(gone, 0.0),
        )

    def _scaled(self, factor: Tensor) -> "Scale":
        bias = None if self.bias is None else self.bias * factor[:, None]
        return replace(self, weight=self.weight * factor[:, None], bias=bias)


def _with_weight(module: Module, value: float) -> Module:
    """A copy of a norm whose weight is `value` throughout, and its bias zero."""
    made = copy.deepcopy(module)
    with torch.no_grad():
        made.weight.fill_(value)
        if getattr(made, "bias", None) is not None:
            made.bias.zero_()
    return made
