"""A change of the output weights of a few inner neurons, for methods that edit knowledge neurons."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aftershock.lm.edits.delta import register
from aftershock.lm.edits.weights import CaseRows, WeightDelta


@register
@dataclass(frozen=True)
class Rows(WeightDelta):
    """A change of some columns of a projection's weight: the output weights of the chosen neurons.

    A case that changes fewer of them than others is padded with any index and zeros; an index given twice
    counts twice.
    """

    module: str
    indices: Tensor  # (B, r), which inputs of the projection
    values: Tensor  # (B, r, d_out), the change of these columns of the (d_out, d_in) weight
    d_in: int

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the changed weight."""
        return self.values.shape[2], self.d_in

    def dense(self) -> Tensor:
        """The change as matrices, (B, d_out, d_in)."""
        index = self.indices[:, None].expand(-1, self.values.shape[2], -1)
        empty = self.values.new_zeros(len(self), self.values.shape[2], self.d_in)
        return empty.scatter_add(2, index, self.values.mT)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Unit vectors, and the values."""
        return torch.nn.functional.one_hot(self.indices, self.d_in).to(self.values.dtype), self.values

    def _change(self, x: Tensor, rows: CaseRows) -> Tensor:
        index = self.indices[rows.cases][:, None].expand(-1, x.shape[1], -1)
        return x.gather(2, index) @ self.values[rows.cases]

    def without(self, cases: Tensor) -> "Rows":
        """The change with zeros in the cases that are true in `cases` (B,)."""
        return replace(self, values=self.values.masked_fill(cases.to(self.values.device)[:, None, None], 0.0))

    def to(self, device: torch.device | torch.dtype) -> "Rows":
        """The change on another device, or in another precision."""
        indices = self.indices if isinstance(device, torch.dtype) else self.indices.to(device)
        return replace(self, indices=indices, values=self.values.to(device))

    def _used(self) -> Tensor:
        return self.values.any(dim=2)

    def _redrawn(self, draw: Callable[[Tensor], Tensor]) -> "Rows":
        return replace(self, values=draw(self.values))

    def _scaled(self, factor: Tensor) -> "Rows":
        return replace(self, values=self.values * factor[:, None, None])
