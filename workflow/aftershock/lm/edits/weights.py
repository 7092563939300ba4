"""Base of changes of one module's weight, and their application to batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import Module

from aftershock.lm.edits.delta import Batch, CaseTensors
from aftershock.lm.families import layer_number
from aftershock.lm.model import LanguageModel


@dataclass(frozen=True)
class CaseRows:
    """The rows of a batch grouped by case."""

    cases: Tensor  # (rows,)
    n_cases: int

    @cached_property
    def in_order(self) -> bool:
        """True if every case has equally many rows, in the order of the cases."""
        share, rest = divmod(len(self.cases), self.n_cases)
        every = torch.arange(self.n_cases, device=self.cases.device)
        return not rest and torch.equal(self.cases, every.repeat_interleave(share))

    @cached_property
    def parts(self) -> list[tuple[int, Tensor]]:
        """Each case that has rows, and the indices of these."""
        return [(case, (self.cases == case).nonzero()[:, 0]) for case in self.cases.unique().tolist()]


class WeightDelta(CaseTensors, ABC):
    """A change of a projection's weight, and perhaps of its bias, that is added to the module's output."""

    in_weights: ClassVar[bool] = True
    per_token: ClassVar[bool] = True

    @property
    def bias(self) -> Tensor | None:
        """The change of the module's bias, (B, d_out)."""
        return None

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the changed weight: (d_out, d_in), or (d,) of a norm."""

    @abstractmethod
    def dense(self) -> Tensor:
        """The change of the weight, (B, d_out, d_in) or (B, d)."""

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor] | None:
        """U (B, r, d_in) and V (B, r, d_out) of a change V^T U; None for one with a bias or of full rank."""

    @abstractmethod
    def without(self, cases: Tensor) -> Self:
        """The change with nothing changed in the cases that are true in `cases` (B,)."""

    @abstractmethod
    def _change(self, x: Tensor, rows: CaseRows) -> Tensor:
        """Addition to the module's output at input `x` (rows, columns, d_in), rows grouped by case."""

    def change(self, x: Tensor, cases: Tensor) -> Tensor:
        """Addition of case `cases[i]` to the module's output at row i of `x` (rows, columns, d_in)."""
        return self._change(x, CaseRows(cases, len(self)))

    def compact(self, tokens: float) -> "WeightDelta":
        """The change in the form that costs least where a case runs `tokens` tokens."""
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
        delta, rows = self.to(device), CaseRows(batch.cases.to(device), len(self))

        def hook(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
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
        squared = self.dense().double().square().flatten(1).sum(dim=1)
        return squared if self.bias is None else squared + self.bias.double().square().sum(dim=1)

    def random_like(self, generators: Sequence[torch.Generator]) -> Self:
        """Normal numbers in the tensors of the change, scaled to its norm in each case.

        They are drawn on the CPU, so that a seed means the same everywhere, and for the parts that a case
        has, so that it does not matter how far it is padded.
        """
        used = self._used()

        def draw(tensor: Tensor) -> Tensor:
            drawn = torch.zeros(tensor.shape)
            for case, generator in enumerate(generators):
                mine = slice(None) if used is None else used[case].cpu()
                drawn[case, mine] = torch.randn(drawn[case, mine].shape, generator=generator)
            return drawn.to(tensor)

        noise = self._redrawn(draw)
        size = noise.squared_norm().clamp(min=torch.finfo(torch.float64).tiny)
        return noise._scaled((self.squared_norm() / size).sqrt().to(self.dtype))

    def _used(self) -> Tensor | None:
        """True for the parts of the change that a case has, (B, r); None where it has all."""
        return None

    def _redrawn(self, draw: Callable[[Tensor], Tensor]) -> Self:
        """The change with all its numbers replaced by new draws."""
        return self._map(draw)

    @abstractmethod
    def _scaled(self, factor: Tensor) -> Self:
        """The change times `factor` (B,)."""

    def scaled(self, factor: Tensor) -> Self:
        """The change times `factor` (B,)."""
        return self._scaled(factor)
