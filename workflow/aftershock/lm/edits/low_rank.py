"""A change of low rank, as most editors make them."""

from dataclasses import dataclass, replace

from torch import Tensor

from aftershock.lm.edits.delta import register
from aftershock.lm.edits.dense import Dense
from aftershock.lm.edits.weights import CaseRows, WeightDelta

GATHERED_RANK = 32  # up to here a copy of the factors for each row costs less than a product for each case


@register
@dataclass(frozen=True)
class LowRank(WeightDelta):
    """The change V^T U of a projection's weight, of rank r, for each of B cases."""

    module: str
    U: Tensor  # (B, r, d_in)
    V: Tensor  # (B, r, d_out)

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.U.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the changed weight."""
        return self.V.shape[2], self.U.shape[2]

    def dense(self) -> Tensor:
        """The change as matrices, (B, d_out, d_in)."""
        return self.V.mT @ self.U

    def factors(self) -> tuple[Tensor, Tensor]:
        """U and V."""
        return self.U, self.V

    def compact(self, tokens: float) -> WeightDelta:
        """Return a dense change where applying the matrix takes fewer products than applying the factors."""
        d_out, d_in = self.shape
        as_dense = (self.rank + tokens) * d_in * d_out
        return Dense(self.module, self.dense()) if as_dense < tokens * self.rank * (d_in + d_out) else self

    def _change(self, x: Tensor, rows: CaseRows) -> Tensor:
        if len(self) == 1:
            return (x @ self.U[0].T) @ self.V[0]
        if self.rank <= GATHERED_RANK:
            return (x @ self.U[rows.cases].mT) @ self.V[rows.cases]
        if rows.in_order:
            mine = x.reshape(len(self), -1, x.shape[-1])
            return ((mine @ self.U.mT) @ self.V).reshape(*x.shape[:2], -1)
        added = x.new_empty(*x.shape[:2], self.V.shape[2])
        for case, mine in rows.parts:
            added[mine] = (x[mine] @ self.U[case].T) @ self.V[case]
        return added

    def without(self, cases: Tensor) -> "LowRank":
        """The change with zeros in the cases that are true in `cases` (B,)."""
        return replace(self, V=self.V.masked_fill(cases.to(self.V.device)[:, None, None], 0.0))

    def _used(self) -> Tensor:
        return self.U.any(dim=2) & self.V.any(dim=2)

    def _scaled(self, factor: Tensor) -> "LowRank":
        return replace(self, V=self.V * factor[:, None, None])
