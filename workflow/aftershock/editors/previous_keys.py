"""S, the sum of k k^T over the keys k of earlier edits, which later edits should preserve.

An editor that has it carries it in its memory, for each layer and case: the latest keys themselves, and the
matrix of those before them, whose size does not grow with the number of edits.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aftershock.editors.contract import Memory
from aftershock.editors.solvers import Earlier, Factor, adjust

SHARE = 16
"""Keys are kept as they are up to this fraction of their width, then added to the matrix. A solution takes
each of them in turn, and a new matrix has to be factorised: about sqrt(width) keys balance the two."""


@dataclass(frozen=True)
class PreviousKeys:
    """S of one layer for B cases: keys (B, m, d) and the matrix of others (B, d, d), float64, or None."""

    keys: Tensor | None = None
    matrix: Tensor | None = None

    @classmethod
    def read(cls, memory: Memory | None, layer: int, device: torch.device) -> "PreviousKeys":
        """Return the previous keys in a memory; none without one."""
        kept = {name: (memory or {}).get(f"{name}.{layer}") for name in ("keys", "matrix")}
        return cls(**{name: None if tensor is None else tensor.to(device) for name, tensor in kept.items()})

    def entries(self, layer: int) -> dict[str, Tensor]:
        """Return the entries of a memory that hold them."""
        kept = {"keys": self.keys, "matrix": self.matrix}
        return {f"{name}.{layer}": tensor for name, tensor in kept.items() if tensor is not None}

    def add(self, keys: Tensor) -> "PreviousKeys":
        """Return these and the keys of another edit, (B, n, d); rows of zeros are no keys."""
        keys = keys[:, keys.ne(0).any(dim=2).any(dim=0)]
        known = keys if self.keys is None else torch.cat([self.keys, keys], dim=1)
        if known.shape[1] <= known.shape[2] // SHARE:
            return replace(self, keys=known)
        return PreviousKeys(matrix=self._total(known))

    def total(self, like: Tensor) -> Tensor:
        """Return S of each case as a matrix, (B, d, d), where keys are as `like` (B, n, d)."""
        return self._total(like[:, :0] if self.keys is None else self.keys)

    def _total(self, keys: Tensor) -> Tensor:
        return keys.mT @ keys if self.matrix is None else torch.baddbmm(self.matrix, keys.mT, keys)


class SummedFactors:
    """Factors of A + S for a matrix A of each layer, cached for the last S.

    In a long sequence S is the same for some edits, and its factorisation would take longer than the edit.
    """

    def __init__(self, matrix_of: Callable[[int], Tensor]) -> None:
        self._matrix_of = matrix_of
        self._last: dict[int, tuple[weakref.ref[Tensor], list[Factor]]] = {}

    def of(self, layer: int, S: Tensor) -> list[Factor]:
        """Return a factor for each case of S, (B, d, d)."""
        kept, factors = self._last.get(layer, (None, []))
        if kept is None or kept() is not S:
            name = f"the earlier keys of layer {layer} and what they are added to"
            matrix = self._matrix_of(layer)
            factors = [Factor.of(matrix + mine, name) for mine in S]
            self._last[layer] = weakref.ref(S), factors
        return factors


def adjust_beside(factors: Sequence[Factor], keys: Tensor, latest: Tensor | None) -> Tensor:
    """Return ((A + K K^T)^-1 K)^T for the keys K^T (B, n, d) of each case, with a factor of its own A.

    With the `latest` keys of the case (B, m, d) K K^T is a sum over those too.
    """
    known = [None] * len(keys) if latest is None else latest.split(1)
    parts = [
        adjust(factor, 1.0, mine, Earlier.of(factor, before))
        for factor, mine, before in zip(factors, keys.split(1), known, strict=True)
    ]
    return torch.cat(parts)
