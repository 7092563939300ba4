"""The memory of LyapLock: earlier keys with what stands there, and the queue of each layer."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aftershock.editors.contract import Memory
from aftershock.editors.previous_keys import SHARE

if TYPE_CHECKING:
    from aftershock.editors.lyaplock import LyapLockSettings


@dataclass(frozen=True)
class Written:
    """Keys of earlier edits and what the change of the weights made of them, float64, or None.

    The latest ones as they are, and those before them as the sums S of k k^T and T of v k^T.
    """

    keys: Tensor | None = None  # (B, m, d_in)
    values: Tensor | None = None  # (B, m, d_out)
    S: Tensor | None = None  # (B, d_in, d_in)
    T: Tensor | None = None  # (B, d_out, d_in)

    @classmethod
    def read(cls, memory: Memory | None, layer: int, device: torch.device) -> "Written":
        """Return what a memory has of a layer; nothing without one."""
        kept = {name: (memory or {}).get(f"{name}.{layer}") for name in ("keys", "values", "S", "T")}
        return cls(**{name: None if tensor is None else tensor.to(device) for name, tensor in kept.items()})

    def entries(self, layer: int) -> dict[str, Tensor]:
        """Return what a memory keeps of them."""
        return {f"{name}.{layer}": tensor for name, tensor in vars(self).items() if tensor is not None}

    def extended(self, keys: Tensor, values: Tensor) -> "Written":
        """Return those with further keys (B, n, d_in) and values (B, n, d_out) behind the latest."""
        if self.keys is None or self.values is None:
            return replace(self, keys=keys, values=values)
        return replace(
            self, keys=torch.cat([self.keys, keys], dim=1), values=torch.cat([self.values, values], dim=1)
        )

    def add(self, keys: Tensor, values: Tensor) -> "Written":
        """Return those with another edit's, in sums once they are many; rows of zeros are no keys."""
        real = keys.ne(0).any(dim=2).any(dim=0)
        found = self.extended(keys[:, real], values[:, real])
        assert found.keys is not None
        assert found.values is not None
        if found.keys.shape[1] <= keys.shape[2] // SHARE:
            return found
        S, T = found.keys.mT @ found.keys, found.values.mT @ found.keys
        return Written(S=S if self.S is None else self.S + S, T=T if self.T is None else self.T + T)


@dataclass(frozen=True)
class Queue:
    """The virtual queue of one layer: the preservation loss after a case's first edit, and its length."""

    base: Tensor  # D_b, (B,) float64; 0 before the first edit, and as long as nothing is lost
    length: Tensor  # Z, (B,) float64

    @classmethod
    def read(cls, memory: Memory | None, layer: int, n: int, device: torch.device) -> "Queue":
        """Return the one that a memory has of a layer; an empty one without."""
        kept = [(memory or {}).get(f"{name}.{layer}") for name in ("base", "queue")]
        return cls(
            *(torch.zeros(n, dtype=torch.float64, device=device) if k is None else k.to(device) for k in kept)
        )

    def entries(self, layer: int) -> dict[str, Tensor]:
        """Return what a memory keeps of it."""
        return {f"base.{layer}": self.base, f"queue.{layer}": self.length}

    def weight(self, settings: "LyapLockSettings") -> Tensor:
        """Return a Z / V of each case, and 1 before its first edit, (B,)."""
        return torch.where(self.base > 0, self._rate(settings) * self.length / settings.edit_weight, 1.0)

    def after(self, loss: Tensor, settings: "LyapLockSettings") -> "Queue":
        """Return the queue after an edit that leaves a preservation loss of `loss` (B,)."""
        first = self.base <= 0
        known = Queue(torch.where(first, loss, self.base), self.length)
        start, floor = (
            getattr(settings, f"queue_{name}") * known._unit(settings, name) for name in ("start", "floor")
        )
        beyond = loss - settings.alpha * known.base
        length = torch.where(first, start, self.length)
        longer = torch.maximum(length + known._rate(settings) * beyond + settings.queue_drift, floor)
        return Queue(known.base, torch.where(known.base > 0, longer, 0.0))

    def _rate(self, settings: "LyapLockSettings") -> Tensor:
        """The change of the length per loss (a), (B,)."""
        return settings.queue_step / self._unit(settings, "step")

    def _unit(self, settings: "LyapLockSettings", name: str) -> Tensor:
        """The unit that the setting `name` of the queue is stated in, (B,)."""
        allowed = settings.alpha * self.base
        unit = getattr(settings, f"queue_{name}_unit")
        return {"root": allowed.sqrt(), "loss": allowed, "one": torch.ones_like(allowed)}[unit]

    def where(self, kept: Tensor, other: "Queue") -> "Queue":
        """Return this in the cases that are true in `kept` (B,), `other` elsewhere."""
        return Queue(torch.where(kept, self.base, other.base), torch.where(kept, self.length, other.length))
