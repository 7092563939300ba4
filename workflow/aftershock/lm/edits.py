"""Weight changes of many cases at once, applied while a model runs and never written into its weights.

A state is a tuple of deltas, each with a leading case axis; the unedited model is the empty tuple, and a
model after two edits is the deltas of both side by side. Undoing an edit is leaving its deltas out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aftershock.lm.model import LanguageModel


@dataclass(frozen=True)
class LowRank:
    """The change V^T U of a projection's weight, of rank r, for each of B cases."""

    module: str
    U: Tensor  # (B, r, d_in)
    V: Tensor  # (B, r, d_out)

    def __len__(self) -> int:
        return len(self.U)

    def change(self, x: Tensor, rows: Tensor) -> Tensor:
        """What the change adds to the module's output at input `x` (batch, seq, d_in)."""
        return (x @ self.U[rows].mT) @ self.V[rows]

    def dense(self) -> Tensor:
        """The change as matrices, (B, d_out, d_in)."""
        return self.V.mT @ self.U

    def to(self, device: torch.device) -> "LowRank":
        """The change on another device."""
        return replace(self, U=self.U.to(device), V=self.V.to(device))

    def select(self, indices: Tensor) -> "LowRank":
        """The change of some of the cases."""
        return replace(self, U=self.U[indices], V=self.V[indices])

    def without(self, cases: Tensor) -> "LowRank":
        """The change with zeros in the cases that are true in `cases` (B,)."""
        return replace(self, V=self.V.masked_fill(cases.to(self.V.device)[:, None, None], 0.0))


@dataclass(frozen=True)
class Dense:
    """A change of a projection's whole weight, and of its bias where it has one, for each of B cases."""

    module: str
    weight: Tensor  # (B, d_out, d_in)
    bias: Tensor | None = None  # (B, d_out)

    def __len__(self) -> int:
        return len(self.weight)

    def change(self, x: Tensor, rows: Tensor) -> Tensor:
        """What the change adds to the module's output at input `x` (batch, seq, d_in)."""
        share, rest = divmod(len(rows), len(self))
        every = torch.arange(len(self), device=rows.device)
        if not rest and torch.equal(rows, every.repeat_interleave(share)):
            # in this order the gradient of `weight` comes in its own layout
            added = (self.weight @ x.reshape(len(self), -1, x.shape[-1]).mT).mT.reshape(*x.shape[:2], -1)
        else:  # one product per case: a matrix for every row would not fit
            added = x.new_empty(*x.shape[:2], self.weight.shape[1])
            for case in rows.unique().tolist():
                mine = rows == case
                added[mine] = x[mine] @ self.weight[case].T
        return added if self.bias is None else added + self.bias[rows][:, None]

    def dense(self) -> Tensor:
        """The change as matrices, (B, d_out, d_in); the bias is left out."""
        return self.weight

    def to(self, device: torch.device) -> "Dense":
        """The change on another device."""
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, weight=self.weight.to(device), bias=bias)

    def select(self, indices: Tensor) -> "Dense":
        """The change of some of the cases."""
        bias = None if self.bias is None else self.bias[indices]
        return replace(self, weight=self.weight[indices], bias=bias)

    def without(self, cases: Tensor) -> "Dense":
        """The change with zeros in the cases that are true in `cases` (B,)."""
        cases = cases.to(self.weight.device)
        bias = None if self.bias is None else self.bias.masked_fill(cases[:, None], 0.0)
        return replace(self, weight=self.weight.masked_fill(cases[:, None, None], 0.0), bias=bias)


Delta = LowRank | Dense
State = tuple[Delta, ...]
EMPTY: State = ()


@contextmanager
def apply_deltas(lm: LanguageModel, state: State, rows: Tensor) -> Iterator[None]:
    """Inside, row i of a batch runs with the weights of case `rows[i]` of `state`."""
    handles = []
    try:
        for delta in state:
            module = lm.model.get_submodule(delta.module)
            device = module.weight.device  # of a model that is spread over several devices
            handles.append(module.register_forward_hook(_adder(lm, delta.to(device), rows.to(device))))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adder(lm: LanguageModel, delta: Delta, rows: Tensor):
    def hook(module, args, output):
        with lm.reduced("strict"):  # a change is exact even where the weights are not
            return output + delta.change(args[0].to(_dtype(delta)), rows)

    return hook


def select(state: State, indices: Sequence[int]) -> State:
    """The state of some of the cases, in the order of `indices`."""
    return tuple(delta.select(torch.as_tensor(indices, device=_device(delta))) for delta in state)


def scatter_cases(state: State, indices: Sequence[int], size: int) -> State:
    """`state` of the cases `indices` as that of `size` cases, nothing changed in the other ones."""
    if len(indices) == size:
        return state
    place = [0] * size
    for row, i in enumerate(indices):
        place[i] = row
    absent = torch.ones(size, dtype=torch.bool)
    absent[list(indices)] = False
    return tuple(delta.without(absent) for delta in select(state, place))


def state_norm(state: State) -> Tensor:
    """Frobenius norm of each case's whole change, (B,), float64; the deltas of one module add up first."""
    total = sum(_squared(deltas) for deltas in _by_module(state).values())
    return torch.as_tensor(total, dtype=torch.float64).sqrt()


def random_like(state: State, seeds: Sequence[int]) -> State:
    """A random change that equals `state` in modules, in their ranks, and in each module's norm, per case.

    One seed per case, so that a case's draw does not depend on the cases beside it.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = []
    for module, deltas in _by_module(state).items():
        if any(isinstance(delta, Dense) for delta in deltas):
            bias = next((d.bias for d in deltas if isinstance(d, Dense)), None)
            shape = deltas[0].dense().shape[1:]
            noise = Dense(
                module,
                _normal(generators, shape, deltas[0]),
                None if bias is None else _normal(generators, bias.shape[1:], deltas[0]),
            )
        else:
            u, v = (torch.cat([getattr(d, name) for d in deltas], dim=1) for name in "UV")
            noise = LowRank(
                module,
                _normal(generators, u.shape[1:], deltas[0]),
                _normal(generators, v.shape[1:], deltas[0]),
            )
        scale = (_squared(deltas) / _squared([noise])).sqrt()
        drawn.append(_scaled(noise, scale))
    return tuple(drawn)


def _by_module(state: State) -> dict[str, list[Delta]]:
    groups: dict[str, list[Delta]] = {}
    for delta in state:
        groups.setdefault(delta.module, []).append(delta)
    return groups


def _squared(deltas: Sequence[Delta]) -> Tensor:
    """Squared norm of the sum of one module's deltas, (B,), float64, without building low-rank matrices."""
    if any(isinstance(delta, Dense) for delta in deltas):
        squared = sum(delta.dense().double() for delta in deltas).square().sum(dim=(1, 2))
        biases = [d.bias.double() for d in deltas if isinstance(d, Dense) and d.bias is not None]
        return squared + sum(biases).square().sum(dim=1) if biases else squared
    u, v = (torch.cat([getattr(d, name) for d in deltas], dim=1).double() for name in "UV")
    return ((u @ u.mT) * (v @ v.mT)).sum(dim=(1, 2)).clamp(min=0.0)


def _normal(generators: Sequence[torch.Generator], shape: Sequence[int], like: Delta) -> Tensor:
    """Normal numbers, (cases, *shape): drawn on the CPU, so that a seed means the same everywhere."""
    drawn = torch.stack([torch.randn(tuple(shape), generator=g) for g in generators])
    return drawn.to(device=_device(like), dtype=_dtype(like))


def _scaled(delta: Delta, factor: Tensor) -> Delta:
    factor = factor.to(_dtype(delta))
    if isinstance(delta, LowRank):
        return replace(delta, V=delta.V * factor[:, None, None])
    bias = None if delta.bias is None else delta.bias * factor[:, None]
    return replace(delta, weight=delta.weight * factor[:, None, None], bias=bias)


def _device(delta: Delta) -> torch.device:
    return (delta.U if isinstance(delta, LowRank) else delta.weight).device


def _dtype(delta: Delta) -> torch.dtype:
    return (delta.U if isinstance(delta, LowRank) else delta.weight).dtype
