"""Changes of one module's weight: what the kinds of them share, and their sums."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from aftershock.lm.edits.delta import Batch, CaseTensors
from aftershock.lm.families import layer_number
from aftershock.lm.model import LanguageModel


@dataclass(frozen=True)
class CaseRows:
    """The rows of a batch by their cases."""

    cases: Tensor  # (rows,)
    in_order: bool  # every case has as many rows, and they stand in the order of the cases
    parts: tuple[tuple[int, Tensor], ...]  # each case that has rows, and these

    @classmethod
    def of(cls, cases: Tensor, n_cases: int) -> "CaseRows":
        """The rows of `cases` (rows,), of `n_cases` in all."""
        share, rest = divmod(len(cases), n_cases)
        every = torch.arange(n_cases, device=cases.device)
        in_order = not rest and torch.equal(cases, every.repeat_interleave(share))
        present = [] if in_order else cases.unique().tolist()
        return cls(cases, in_order, tuple((case, (cases == case).nonzero()[:, 0]) for case in present))


class WeightDelta(CaseTensors, ABC):
    """A change of a projection's weight, and perhaps of its bias, that is added to the module's output."""

    in_weights: ClassVar[bool] = True
    per_token: ClassVar[bool] = True
    bias: Tensor | None  # (B, d_out)

    @abstractmethod
    def dense(self) -> Tensor:
        """The change of the weight as matrices, (B, d_out, d_in)."""

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor] | None:
        """U (B, r, d_in) and V (B, r, d_out), the change being V^T U; None for one that has a bias or full rank."""

    @abstractmethod
    def _change(self, x: Tensor, rows: CaseRows) -> Tensor:
        """What the change adds to the module's output at input `x` (rows, columns, d_in)."""

    def change(self, x: Tensor, cases: Tensor) -> Tensor:
        """What the change of case `cases[i]` adds to the module's output at row i of `x` (rows, columns, d_in)."""
        return self._change(x, CaseRows.of(cases, len(self)))

    def compact(self, tokens: float) -> "WeightDelta":
        """The same in the form that costs least where a case runs `tokens` tokens."""
        return self

    @contextmanager
    def attach(self, lm: LanguageModel, batch: Batch) -> Iterator[None]:
        """Context manager: the module's output has the row's change added."""
        module = lm.model.get_submodule(self.module)
        if layer_number(self.module) is None:
            raise ValueError(
                f"{self.name}: only matrices inside layers can be changed per case, since embeddings and "
                "head are applied elsewhere"
            )
        device = module.weight.device  # of a model that is spread over several devices
        delta, rows = self.to(device), CaseRows.of(batch.cases.to(device), len(self))

        def hook(module, args, output):
            with lm.reduced("strict"):  # a change is exact even where the weights are not
                return output + delta._change(args[0].to(delta.dtype), rows)

        handle = module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the change."""
        return next(value.dtype for value in self.tensors().values() if value.is_floating_point())

    def squared_norm(self) -> Tensor:
        """Squared Frobenius norm of each case's change, bias included, (B,), float64."""
        factors = self.factors()
        if factors is not None:  # without building the matrices
            u, v = (factor.double() for factor in factors)
            return ((u @ u.mT) * (v @ v.mT)).sum(dim=(1, 2)).clamp(min=0.0)
        squared = self.dense().double().square().sum(dim=(1, 2))
        return squared if self.bias is None else squared + self.bias.double().square().sum(dim=1)

    def random_like(self, generators: Sequence[torch.Generator]) -> Self:
        """Normal numbers in the tensors of the change, scaled to its norm in each case.

        They are drawn on the CPU, so that a seed means the same everywhere.
        """

        def draw(tensor: Tensor) -> Tensor:
            drawn = torch.stack([torch.randn(tensor.shape[1:], generator=g) for g in generators])
            return drawn.to(tensor)

        noise = self._map(draw)
        return noise._scaled((self.squared_norm() / noise.squared_norm()).sqrt().to(self.dtype))

    @abstractmethod
    def _scaled(self, factor: Tensor) -> Self:
        """The change times `factor` (B,)."""
