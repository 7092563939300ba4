"""Row norms and rank of a change of a weight, without building whole matrices."""

import torch
from torch import Tensor

from aftershock.lm.edits.weights import WeightDelta


def row_norms(delta: WeightDelta) -> Tensor:
    """Return the norm of each row of a change, (B, d_out), float64; the bias is left out.

    The weight of a norm counts as a row for each entry.
    """
    if (factors := delta.factors()) is None:
        matrices = delta.dense() if len(delta.shape) == 2 else delta.dense()[..., None]
        return torch.linalg.vector_norm(matrices, dim=2, dtype=torch.float64)
    U, V = (factor.double() for factor in factors)
    columns = V.mT  # row i of V^T U is row i of V^T times U
    return ((columns @ (U @ U.mT)) * columns).sum(dim=2).clamp(min=0.0).sqrt()


def ranks(delta: WeightDelta) -> list[int] | None:
    """Return the numerical rank of each case's change; None for a change of whole matrices.

    Counted are singular values above the largest one times the longer side times float32's rounding.
    """
    if (factors := delta.factors()) is None:
        return None
    inner, outer = (torch.linalg.qr(factor.double().mT, mode="r").R for factor in factors)
    values = torch.linalg.svdvals(outer @ inner.mT)
    noise = values.amax(dim=1, keepdim=True) * max(delta.shape) * torch.finfo(torch.float32).eps
    return (values > noise).sum(dim=1).tolist()
