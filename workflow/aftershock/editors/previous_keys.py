"""S, the sum of k k^T over the keys k of earlier edits, which later edits should leave alone.

An editor that has it carries it in its memory, for each layer and case: the keys themselves as long as they
are few, then the matrix, whose size does not grow with the number of edits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aftershock.editors.contract import Memory

FEW = 4
"""Keys are kept up to this fraction of their width. The matrix takes FEW times their space from there on, and
a solution with it less time than with the keys, each of which is solved for again in every edit."""


@dataclass(frozen=True)
class PreviousKeys:
    """S of one layer for B cases: as keys (B, m, d) or as matrix (B, d, d), float64; the other is None."""

    keys: Tensor | None = None
    matrix: Tensor | None = None

    @classmethod
    def read(cls, memory: Memory | None, layer: int, device: torch.device) -> "PreviousKeys":
        """Return those in a memory; none without one."""
        kept = {name: (memory or {}).get(f"{name}.{layer}") for name in ("keys", "matrix")}
        return cls(**{name: None if tensor is None else tensor.to(device) for name, tensor in kept.items()})

    def entries(self, layer: int) -> dict[str, Tensor]:
        """Return what a memory keeps of them."""
        kept = {"keys": self.keys, "matrix": self.matrix}
        return {f"{name}.{layer}": tensor for name, tensor in kept.items() if tensor is not None}

    def add(self, keys: Tensor) -> "PreviousKeys":
        """Return those and the keys of another edit, (B, n, d); rows of zeros are no keys."""
        if self.matrix is not None:
            return PreviousKeys(matrix=torch.baddbmm(self.matrix, keys.mT, keys))
        keys = keys[:, keys.ne(0).any(dim=2).any(dim=0)]
        known = keys if self.keys is None else torch.cat([self.keys, keys], dim=1)
        if known.shape[1] <= known.shape[2] // FEW:
            return PreviousKeys(known)
        return PreviousKeys(matrix=known.mT @ known)

    def total(self, like: Tensor) -> Tensor:
        """Return S of each case as a matrix, (B, d, d), where keys are as `like` (B, n, d)."""
        if self.matrix is not None:
            return self.matrix
        if self.keys is not None:
            return self.keys.mT @ self.keys
        return like.new_zeros(len(like), like.shape[2], like.shape[2])
