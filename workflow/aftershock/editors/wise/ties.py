"""TIES: changes of one matrix merged by magnitude and sign (Yadav et al., 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def merge(changes: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    """Return the merged change of changes of equal shape.

    The largest entries of each change are kept, a share `density` of all, and weighted. The sign of an entry
    is that of the sum, + for 0; those that have it are summed and divided by the sum of their weights.
    """
    kept = torch.stack([_largest(change, density) for change in changes])
    weight = kept.new_tensor(list(weights)).view(-1, *[1] * (kept.ndim - 1))
    weighted = kept * weight
    sign = torch.where(weighted.sum(dim=0) >= 0, 1.0, -1.0)
    agree = weighted.sign() == sign
    total = (weight * agree).sum(dim=0)
    return (weighted * agree).sum(dim=0) / torch.where(total == 0, 1.0, total)


def _largest(change: Tensor, density: float) -> Tensor:
    if density >= 1:
        return change
    count = max(1, int(density * change.numel()))
    places = change.abs().flatten().topk(count).indices
    kept = torch.zeros_like(change).flatten()
    kept[places] = change.flatten()[places]
    return kept.view_as(change)
