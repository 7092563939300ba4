"""The algebra of regularisers: functions from a change of one weight to another change.

A change (`WeightDelta`) is that of B cases. Changes of low rank stay so under all but RECT.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from aftershock.editors.regularisers import NormClampSettings, PruneSettings, RectSettings, SphereSettings
from aftershock.lm.edits import Dense, LowRank, join
from aftershock.lm.edits.weights import WeightDelta

Value = TypeVar("Value")
BASES = {"log": math.e, "log1_2": 1.2, "log1_5": 1.5, "log2": 2.0}
"""Bases of PRUNE's logarithms."""


@dataclass(frozen=True)
class Weight:
    """A weight before an edit: that of the unedited model, with the changes of earlier edits."""

    original: Tensor
    """(d_out, d_in)."""
    before: WeightDelta | None = None
    """All earlier changes of B cases; None before the first edit."""
    transposed: bool = False
    """The model stores it as (d_in, d_out)."""
    known: dict = field(default_factory=dict, repr=False)
    """Results computed of the unedited weight, by name."""

    def of(self, case: int) -> Tensor:
        """The weight of one case, (d_out, d_in)."""
        if self.before is None:
            return self.original
        return self.original + self.before.select([case]).dense()[0]

    def once(self, name: object, compute: Callable[[Tensor], Value]) -> Value:
        """Return `compute` of the unedited weight, cached under `name`."""
        if name not in self.known:
            self.known[name] = compute(self.original)
        return self.known[name]


# --- RECT -------------------------------------------------------------------------------------------------


def rect(delta: WeightDelta, weight: Weight, settings: RectSettings) -> WeightDelta:
    """Return `delta` in the entries with the largest |dW / (W + epsilon)|, zeros elsewhere (Gu et al., 2024).

    The threshold is the int(numel (100 - keep) / 100)-th smallest ratio, as in AlphaEdit's release, so that
    one entry more than `keep` per cent is changed; all that equal it are. Where the release has no threshold,
    with all entries kept, nothing happens here.
    """
    below = int(math.prod(delta.shape) * (100 - settings.keep) / 100)
    if below < 1:
        return delta
    kept = []
    for case in range(len(delta)):
        change = delta.select([case]).dense()[0]
        ratio = (change / (weight.of(case) + settings.epsilon)).abs()
        # 0 / 0, where nothing changes a weight of -epsilon
        ratio = ratio.nan_to_num(nan=0.0, posinf=math.inf)
        threshold = ratio.flatten().kthvalue(below).values
        kept.append(change.masked_fill(ratio < threshold, 0.0))
    return Dense(delta.module, torch.stack(kept), delta.bias)


# --- norm clamp -------------------------------------------------------------------------------------------


def norm_clamp(delta: WeightDelta, weight: Weight, settings: NormClampSettings) -> WeightDelta:
    """Return s `delta` with the largest s up to 1 for which |before + s delta| <= limit |W|, case by case.

    Norms are Frobenius norms, of a change's bias too where it has one. Earlier changes stay as they are: from
    a state beyond the limit there may be no such s, and then the edit changes nothing.
    """
    limit = settings.limit * weight.once("norm", lambda w: float(w.double().norm()))
    a = delta.squared_norm()
    if weight.before is None:
        b, c = torch.zeros_like(a), torch.zeros_like(a)
    else:
        c = weight.before.squared_norm()
        (both,) = join((weight.before, delta))
        b = (both.squared_norm() - a - c) / 2
    # the larger root of a s^2 + 2 b s + c = limit^2
    root = (b.square() + a * (limit**2 - c)).clamp(min=0.0).sqrt()
    scale = torch.where(a > 0, (root - b) / a, 1.0).clamp(0.0, 1.0)
    return delta.scaled(scale.to(delta.dtype))


# --- SPHERE -----------------------------------------------------------------------------------------------


def sphere(delta: WeightDelta, weight: Weight, settings: SphereSettings) -> WeightDelta:
    """Return dW (1 - strength Q Q^T) with the principal directions Q of the current weight's unit rows.

    The release takes the rows of a weight as it is stored. For one that is stored transposed these are its
    inputs, so that the change is made weaker on the output's side; `variant: released` does the same.
    """
    outputs = settings.variant == "released" and weight.transposed

    def directions(w: Tensor) -> Tensor:
        return _principal(w.mT if outputs else w, settings.share)

    if weight.before is None:
        Q = [weight.once(("principal", outputs, settings.share), directions)] * len(delta)
    else:
        Q = [directions(weight.of(case)) for case in range(len(delta))]

    def weaker(rows: Tensor) -> Tensor:
        """Rows, (B, n, width), with less along the directions of their case."""
        pairs = zip(rows.double(), Q, strict=True)
        return torch.stack([mine - settings.strength * (mine @ q) @ q.mT for mine, q in pairs]).to(rows)

    if (factors := delta.factors()) is None:
        matrix = delta.dense()
        found = weaker(matrix.mT).mT if outputs else weaker(matrix)
        return Dense(delta.module, found, delta.bias)
    U, V = factors
    return LowRank(delta.module, U, weaker(V)) if outputs else LowRank(delta.module, weaker(U), V)


def _principal(weight: Tensor, share: float) -> Tensor:
    """Return the leading eigenvectors of R^T R, (d_in, n), for `weight` with rows of norm one, R; float64.

    n is one more than the eigenvectors whose cumulative share of the eigenvalues is within `share`.
    """
    rows = weight.double()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    wide = rows.shape[1] > rows.shape[0]  # the smaller Gram matrix has the same eigenvalues
    values, vectors = torch.linalg.eigh(rows @ rows.mT if wide else rows.mT @ rows)
    values, vectors = values.flip(0).clamp(min=0.0), vectors.flip(1)
    n = min(len(values), int((values.cumsum(0) / values.sum() <= share).sum()) + 1)
    return (rows.mT @ vectors[:, :n]) / values[:n].sqrt() if wide else vectors[:, :n]


# --- PRUNE ------------------------------------------------------------------------------------------------


def prune(delta: WeightDelta, weight: Weight, settings: PruneSettings) -> WeightDelta:
    """Return the whole change `delta` with singular values bounded by that of the weight (Ma et al., 2024).

    A singular value s below s0, the largest one of the unedited weight, stays. Others become
    log_a(s) - log_a(s0) + s0, which is larger than s near s0 where s0 ln(a) < 1, or (s + s0) / 2. Those below
    the numerical rank are left out. The release behind `base: edited` leaves none out and compares by `>`,
    which makes no difference, since s0 stays in either case; its change is added to the one that is there.
    """
    left, values, right = _decompose(delta)
    largest = weight.once("largest", lambda w: float(torch.linalg.matrix_norm(w.double(), ord=2)))
    reduced = torch.where(values < largest, values, _bounded(values, largest, settings.function))
    if settings.base == "original":
        noise = values.amax(dim=1, keepdim=True) * max(delta.shape) * torch.finfo(torch.float32).eps
        reduced = reduced.masked_fill(values <= noise, 0.0)
    V, U = (left * reduced[:, None]).mT, right
    if delta.factors() is not None:
        found: WeightDelta = LowRank(delta.module, U.to(delta.dtype), V.to(delta.dtype))
    else:
        found = Dense(delta.module, (V.mT @ U).to(delta.dtype), delta.bias)
    if settings.base == "original":
        return found
    if isinstance(found, Dense):
        found = replace(found, bias=None)  # the change that is there has it
    (both,) = join((delta, found))
    return both  # type: ignore[return-value]


def _decompose(delta: WeightDelta) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular value decomposition of a change: (B, d_out, n), (B, n), (B, n, d_in); float64.

    That of V^T U follows from R_V R_U^T, where V^T = Q_V R_V and U^T = Q_U R_U: a matrix of its rank.
    """
    if (factors := delta.factors()) is None:
        return torch.linalg.svd(delta.dense().double(), full_matrices=False)
    (Q_in, R_in), (Q_out, R_out) = (torch.linalg.qr(factor.double().mT) for factor in factors)
    left, values, right = torch.linalg.svd(R_out @ R_in.mT, full_matrices=False)
    return Q_out @ left, values, right @ Q_in.mT


def _bounded(values: Tensor, largest: float, function: str) -> Tensor:
    if function == "linear":
        return (values + largest) / 2
    return (values.log() - math.log(largest)) / math.log(BASES[function]) + largest
