"""Least squares that weigh a change by second moments of text: X = (lambda C + mu 1 + S + K K^T)^-1 K.

One solver for MEMIT (mu = S = 0), MEMIT with previous keys (mu = 0), ENCORE (Gupta et al., 2025) and, with
lambda_e lambda for lambda, EMMET (Gupta et al., 2024).
"""

import math
from functools import cached_property
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.multi_layer import AdjustedKeys, MultiLayerEditor
from aftershock.editors.multi_layer_settings import PROBE_SHARE, RIDGE_SHARE
from aftershock.editors.previous_keys import PreviousKeys, SummedFactors
from aftershock.editors.solvers import Earlier, Factor, adjust, rounding


class MomentWeightedEditor(MultiLayerEditor):
    """An editor with settings `mom2_weight` (lambda) and perhaps `ridge` (mu) and `previous_keys` (S)."""

    @cached_property
    def mom2_weights(self) -> dict[int, float]:
        """lambda by layer; measured, a share of the median k^T C^-1 k of the probe keys."""
        weight = self.settings.mom2_weight
        if weight != "auto":
            return dict.fromkeys(sorted(self.settings.layers), weight)
        return {layer: probe_weight(self.factor(layer), k, layer) for layer, k in self.probe_keys.items()}

    @cached_property
    def ridges(self) -> dict[int, float]:
        """mu by layer; measured, a share of the mean eigenvalue of lambda C."""
        ridge = getattr(self.settings, "ridge", 0.0)
        if ridge != "auto":
            return dict.fromkeys(sorted(self.settings.layers), ridge)
        scales = {layer: float(self.factor(layer).matrix.diagonal().mean()) for layer in self.mom2_weights}
        return {layer: RIDGE_SHARE * self.mom2_weights[layer] * scale for layer, scale in scales.items()}

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """lambda and mu by layer, where they are measured."""
        auto = {"mom2_weight": self.settings.mom2_weight, "ridge": getattr(self.settings, "ridge", None)}
        found = {"mom2_weight": lambda: self.mom2_weights, "ridge": lambda: self.ridges}
        return {name: found[name]() for name in auto if auto[name] == "auto"} | super().measured

    def remembered_keys(self, layer: int, K: Tensor) -> Tensor | None:
        """The keys themselves, if so set."""
        return K if getattr(self.settings, "previous_keys", False) else None

    def adjust_keys(self, layer: int, K: Tensor, previous: PreviousKeys) -> AdjustedKeys:
        """Return X^T for the keys K^T of each case.

        The latest keys stand beside those of the edit, so that one factorisation of C serves all cases. The
        matrix of older ones is added to C.
        """
        if previous.matrix is None:
            return self.solution(self.base(layer), self.mom2_weights[layer], K, previous.keys)
        factors = self._summed.of(layer, previous.matrix)
        latest = [None] * len(K) if previous.keys is None else previous.keys.split(1)
        parts = [self.solution(*given) for given in zip(factors, repeat(1.0), K.split(1), latest)]
        loose = torch.cat([part.diagnostics["rounding"] for part in parts])
        found = {**parts[0].diagnostics, "mom2_weight": self.mom2_weights[layer], "rounding": loose}
        return AdjustedKeys(torch.cat([part.rows for part in parts]), found)

    def solution(
        self, factor: Factor, weight: float, K: Tensor, previous: Tensor | None = None
    ) -> AdjustedKeys:
        """Return X^T for the keys K^T beside `previous` ones, with `weight` times the factorised matrix."""
        earlier = Earlier.of(factor, previous)
        rows = adjust(factor, weight, K, earlier)
        loose = rounding(factor, weight, K, rows, self.lm.dtype, earlier)
        return AdjustedKeys(rows, {**described(factor), "mom2_weight": weight, "rounding": loose})

    @cached_property
    def _summed(self) -> SummedFactors:
        """Factors of lambda C + mu 1 + S."""
        return SummedFactors(lambda layer: self.mom2_weights[layer] * self.base(layer).matrix)

    def base(self, layer: int) -> Factor:
        """Return C + mu / lambda of a layer in a form to solve with; made once."""
        ratio = self.ridges[layer] / self.mom2_weights[layer]
        if not ratio:
            return self.factor(layer)
        if layer not in self._bases:
            matrix = self.factor(layer).matrix.clone()
            matrix.diagonal().add_(ratio)
            self._bases[layer] = Factor.of(matrix, f"the second moments of layer {layer}")
        return self._bases[layer]

    @cached_property
    def _bases(self) -> dict[int, Factor]:
        return {}


def probe_weight(factor: Factor, keys: Tensor, layer: int) -> float:
    """Return PROBE_SHARE of the median k^T C^-1 k of `keys` (N, d_in); ValueError names the layer."""
    scale = float((keys * factor.solve(keys)).sum(dim=1).median())
    if not 0 < scale < math.inf:
        raise ValueError(
            f"mom2_weight: auto cannot be measured: k^T C^-1 k at layer {layer} is {scale}; take "
            "second moments of more text, or give a number"
        )
    return PROBE_SHARE * scale


def described(factor: Factor) -> dict[str, Any]:
    """Return the entries of diagnostics about a factorisation."""
    return {"rank": factor.rank, "condition": factor.condition, "method": factor.method}
