"""A change of a whole matrix, as fine-tuning makes it."""

from dataclasses import dataclass, replace

from torch import Tensor

from aftershock.lm.edits.delta import register
from aftershock.lm.edits.weights import CaseRows, WeightDelta


@register
@dataclass(frozen=True)
class Dense(WeightDelta):
    """A change of a projection's whole weight, and of its bias where it has one, for each of B cases."""

    module: str
    weight: Tensor  # (B, d_out, d_in)
    bias: Tensor | None = None  # (B, d_out)

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the changed weight."""
        return self.weight.shape[1], self.weight.shape[2]

    def dense(self) -> Tensor:
        """The change as matrices, (B, d_out, d_in); the bias is left out."""
        return self.weight

    def factors(self) -> None:
        """None: the matrix has full rank."""
        return None

    def _change(self, x: Tensor, rows: CaseRows) -> Tensor:
        if rows.in_order:
            # in this order the gradient of `weight` comes in its own layout
            mine = x.reshape(len(self), -1, x.shape[-1])
            added = (self.weight @ mine.mT).mT.reshape(*x.shape[:2], -1)
        else:  # one product per case: a matrix for every row would not fit
            added = x.new_empty(*x.shape[:2], self.weight.shape[1])
            for case, mine in rows.parts:
                added[mine] = x[mine] @ self.weight[case].T
        return added if self.bias is None else added + self.bias[rows.cases][:, None]

    def without(self, cases: Tensor) -> "Dense":
        """The change with zeros in the cases that are true in `cases` (B,)."""
        cases = cases.to(self.weight.device)
        bias = None if self.bias is None else self.bias.masked_fill(cases[:, None], 0.0)
        return replace(self, weight=self.weight.masked_fill(cases[:, None, None], 0.0), bias=bias)

    def _scaled(self, factor: Tensor) -> "Dense":
        bias = None if self.bias is None else self.bias * factor[:, None]
        return replace(self, weight=self.weight * factor[:, None, None], bias=bias)
