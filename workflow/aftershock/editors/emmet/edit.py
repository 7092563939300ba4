"""EMMET: equality constraints on many facts at once, or nearly so (Gupta et al., 2024).

Delta = R (K^T C'^-1 K + lambda_e 1)^-1 K^T C'^-1 with C' = lambda_0 C + mu 1.
"""

from functools import cached_property

import torch
from torch import Tensor

from aftershock.editors.moment_weighted import MomentWeightedEditor, described
from aftershock.editors.multi_layer import AdjustedKeys
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.editors.solvers import interpolate


class Emmet(MomentWeightedEditor):
    """EMMET's solution: exact equality constraints for lambda_e = 0, else MEMIT's least squares.

    With lambda_e > 0 Delta is R K^T (lambda_e C' + K K^T)^-1: MEMIT's. With 0 every value is met.

    The released code inverts both matrices, and takes a pseudo-inverse where the second one has none: then
    requests with equal keys get the mean of their values. Here such a case fails, and says why.
    """

    @cached_property
    def mom2_weights(self) -> dict[int, float]:
        """lambda_0 by layer; measured, lambda_e lambda_0 is MEMIT's lambda."""
        weights = super().mom2_weights
        if self.settings.mom2_weight != "auto":
            return weights
        return {layer: weight / (self.settings.lambda_e or 1.0) for layer, weight in weights.items()}

    @property
    def multi_label(self) -> str:
        """The joint way for the mean weighed as all labels, its equal: a mean alone would be met in full."""
        way = self.settings.multi_label
        return "joint" if way == "mean_scaled" and self.settings.lambda_e > 0 else way

    def adjust_keys(self, layer: int, K: Tensor, previous: PreviousKeys) -> AdjustedKeys:
        """Return X^T for the keys K^T of each case."""
        n = K.ne(0).any(dim=2).sum(dim=1)
        damped = self.settings.lambda_e > 0 and not self.settings.damp_single
        exact = n <= 1 if damped else torch.full_like(n, self.settings.lambda_e == 0, dtype=torch.bool)
        if not exact.any():
            return self._damped(layer, K)
        base = self.base(layer)
        rows, rank = interpolate(base, K)
        reasons = {
            i: f"its {n[i]} keys at layer {layer} have rank {rank[i]}, so that no change writes all values; "
            "set lambda_e above 0, or leave out requests about one subject after one prompt"
            for i in (exact & (rank < n)).nonzero()[:, 0].tolist()
        }
        found = {**described(base), "mom2_weight": self.mom2_weights[layer]}
        if not exact.all():
            damped = self._damped(layer, K)
            rows, found = torch.where(exact[:, None, None], rows, damped.rows), dict(damped.diagnostics)
        return AdjustedKeys(rows, found | {"exact": exact}, reasons)

    def _damped(self, layer: int, K: Tensor) -> AdjustedKeys:
        """MEMIT's solution."""
        return self.solution(self.base(layer), self.settings.lambda_e * self.mom2_weights[layer], K)
