"""AlphaEdit: Delta^T = (P (K K^T + S) + L2 1)^-1 P K R^T, P = U U^T on a null space (Fang et al., 2025)."""

from functools import cached_property

import torch
from torch import Tensor

from aftershock.editors.alphaedit import THRESHOLD_SHARE
from aftershock.editors.multi_layer import AdjustedKeys, MultiLayerEditor
from aftershock.editors.multi_layer_settings import PROBE_SHARE
from aftershock.editors.previous_keys import PreviousKeys, SummedFactors, adjust_beside
from aftershock.editors.solvers import adjust_by_ridge
from aftershock.lm.statistics.null_space import Spectrum


class AlphaEdit(MultiLayerEditor):
    """AlphaEdit's solution in coordinates of the null space, a system of r equations.

    With Kn = U^T K and Sn = U^T S U, Delta^T = U (Kn Kn^T + Sn + L2 1)^-1 Kn R^T.

    r is the dimension of the null space. This is the released solution exactly: the change lies in the null
    space, and so do the keys as far as it depends on them. Sn, not S, is what an edit remembers.
    """

    @cached_property
    def thresholds(self) -> dict[int, float]:
        """The threshold by layer; measured, a share of the mean eigenvalue."""
        given, layers = self.settings.threshold, sorted(self.settings.layers)
        if given != "auto":
            return dict.fromkeys(layers, given)
        return {layer: THRESHOLD_SHARE * float(self._spectrum(layer).values.mean()) for layer in layers}

    @cached_property
    def ridges(self) -> dict[int, float]:
        """L2 by layer; measured, a share of the median squared norm of the projected probe keys."""
        if self.settings.l2 != "auto":
            return dict.fromkeys(sorted(self.settings.layers), self.settings.l2)
        return {
            layer: PROBE_SHARE * float((keys @ self.basis(layer)).square().sum(dim=1).median())
            for layer, keys in self.probe_keys.items()
        }

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """Threshold and L2 by layer, where they are measured."""
        found = {"threshold": lambda: self.thresholds, "l2": lambda: self.ridges}
        auto = [name for name in found if getattr(self.settings, name) == "auto"]
        return {name: found[name]() for name in auto} | super().measured

    def adjust_keys(self, layer: int, K: Tensor, previous: PreviousKeys) -> AdjustedKeys:
        """Return X^T for the keys K^T of each case."""
        basis, ridge = self.basis(layer), self.ridges[layer]
        found = {"rank": basis.shape[1], "l2": ridge, "threshold": self.thresholds[layer]}
        if self.settings.variant == "released":
            return AdjustedKeys(as_released(self._projection(layer), ridge, K, previous.total(K)), found)
        return AdjustedKeys(self._inside(layer, K @ basis, previous) @ basis.T, found)

    def _inside(self, layer: int, K: Tensor, previous: PreviousKeys) -> Tensor:
        """Solve for keys in coordinates of the null space, (B, n, r)."""
        if previous.matrix is None:
            return adjust_by_ridge(self.ridges[layer], K, previous.keys)
        return adjust_beside(self._summed.of(layer, previous.matrix), K, previous.keys)

    @cached_property
    def _summed(self) -> SummedFactors:
        """Factors of L2 1 + Sn."""
        return SummedFactors(
            lambda layer: self.ridges[layer] * torch.eye(self.basis(layer).shape[1]).to(self.basis(layer))
        )

    def remembered_keys(self, layer: int, K: Tensor) -> Tensor | None:
        """The keys in coordinates of the null space, or as they are for the released form."""
        if not self.settings.previous_keys:
            return None
        return K if self.settings.variant == "released" else K @ self.basis(layer)

    def _spectrum(self, layer: int) -> Spectrum:
        """Eigenvalues and eigenvectors of a layer's second moments."""
        spectra = self.artifacts.get("null_space", {})
        if layer not in spectra:
            raise ValueError(f"no null space of layer {layer}; given: {sorted(spectra)}")
        return spectra[layer]

    def basis(self, layer: int) -> Tensor:
        """U, (d_in, r) float64; made once."""
        if layer not in self._bases:
            basis = self._spectrum(layer).below(self.thresholds[layer], f"of layer {layer}")
            self._bases[layer] = basis.to(self.lm.device, torch.float64)
        return self._bases[layer]

    def _projection(self, layer: int) -> Tensor:
        """P, (d_in, d_in) float32; made once."""
        if layer not in self._projections:
            basis = self.basis(layer)
            self._projections[layer] = (basis @ basis.T).float()
        return self._projections[layer]

    @cached_property
    def _projections(self) -> dict[int, Tensor]:
        return {}

    @cached_property
    def _bases(self) -> dict[int, Tensor]:
        return {}


def as_released(P: Tensor, ridge: float, K: Tensor, S: Tensor) -> Tensor:
    """((P (K K^T + S) + L2 1)^-1 P K)^T of each case, (B, n, d_in), by an LU in the precision of P."""
    K, S = K.to(P.dtype), S.to(P.dtype)
    system = P @ (K.mT @ K + S)
    system.diagonal(dim1=1, dim2=2).add_(ridge)
    return torch.linalg.solve(system, P @ K.mT).mT.double()
