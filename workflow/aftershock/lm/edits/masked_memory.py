"""A matrix beside another one that reads a few of its inputs, chosen by the prompt, as MEMOIR has it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module

from aftershock.lm.edits.delta import Batch, CaseTensors, Delta, register
from aftershock.lm.edits.weights import CaseRows
from aftershock.lm.edits.whole_prompt import mean_over, newest, prompt_tokens
from aftershock.lm.model import LanguageModel

Feature = Literal["mean_decentered", "mean", "last"]


@register
@dataclass(frozen=True)
class MaskedMemory(CaseTensors):
    """A memory W_m: a matrix puts out W_m (x * mask) more at input x.

    A prompt's feature is the mean of the matrix's inputs over its tokens, less a background. Its own mask are
    the `top_k` entries of the largest absolute value, sent through a permutation. Of the stored masks, one
    for each prompt that was edited, the one that shares most entries with it is used, the first of equals, if
    it shares `threshold` of `top_k` at least; otherwise nothing is added. Decided once for each row.
    """

    module: str
    top_k: int
    threshold: float
    feature: Feature
    weight: Tensor  # (B, d_out, d_in)
    masks: Tensor  # (B, n, d_in), true for the inputs that are read
    used: Tensor  # (B, n), false where a case has fewer masks
    background: Tensor  # (B, d_in)
    permutation: Tensor  # (B, d_in)

    def features(self, x: Tensor, counted: Tensor, cases: Tensor) -> Tensor:
        """The feature of each row of inputs (rows, columns, d_in) over `counted` (rows, columns), (rows,
        d_in)."""
        if self.feature == "last":
            last = counted.shape[1] - 1 - counted.int().flip(1).argmax(dim=1)
            return x[torch.arange(len(x), device=x.device), last]
        found = mean_over(x, counted)
        return found - self.background[cases] if self.feature == "mean_decentered" else found

    def mask_of(self, features: Tensor, cases: Tensor) -> Tensor:
        """The mask of each feature, (rows, d_in)."""
        largest = features.abs().topk(self.top_k, dim=1).indices
        places = self.permutation[cases].gather(1, largest)
        return torch.zeros_like(features, dtype=torch.bool).scatter_(1, places, True)

    def overlaps(self, masks: Tensor, cases: Tensor) -> Tensor:
        """The share of each mask's entries that every stored one has, (rows, n); -1 for no mask."""
        shared = (masks[:, None] & self.masks[cases]).sum(dim=2)
        return (shared.to(self.weight.dtype) / self.top_k).masked_fill(~self.used[cases], -1.0)

    def route(self, x: Tensor, counted: Tensor, cases: Tensor) -> Tensor:
        """The stored mask that is used for each row of inputs, (rows,); -1 for none."""
        if not self.masks.shape[1]:
            return torch.full_like(cases, -1)
        best = self.overlaps(self.mask_of(self.features(x, counted, cases), cases), cases).max(dim=1)
        return torch.where(best.values >= self.threshold, best.indices, -1)

    @contextmanager
    def attach(self, lm: LanguageModel, batch: Batch) -> Iterator[None]:
        """Context manager: the memory is added in the rows whose prompt is near an edited one."""
        module = lm.model.get_submodule(self.module)
        device = lm.weight(self.module).device
        memory, cases = self.to(device), batch.cases.to(device)
        kept: list[Tensor] = []

        def hook(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            (x, *_) = args
            with lm.reduced("strict"):
                if not kept:
                    with torch.no_grad():
                        counted = prompt_tokens(batch, x.shape[1]).to(device)
                        kept.append(memory.route(x.to(memory.weight.dtype), counted, cases))
                made = output.clone()
                for case, rows in CaseRows(cases, len(memory)).parts:
                    mine = rows[kept[0][rows] >= 0]
                    if len(mine):
                        mask = memory.masks[case, kept[0][mine]][:, None]
                        made[mine] = output[mine] + (x[mine] * mask) @ memory.weight[case].T
            return made

        handle = module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def follow(self, earlier: Delta) -> "MaskedMemory | None":
        """This memory, in cases without edits the `earlier` one; None if that is of another module."""
        if not isinstance(earlier, MaskedMemory) or earlier.settings() != self.settings():
            return None
        holds = self.used.any(dim=1)
        return self if holds.all() else newest(self, earlier, holds)

    def without(self, cases: Tensor) -> "MaskedMemory":
        """The memory with nothing in it in the cases that are true in `cases` (B,)."""
        gone = cases.to(self.used.device)
        return replace(
            self,
            weight=self.weight.masked_fill(gone[:, None, None], 0.0),
            masks=self.masks & ~gone[:, None, None],
            used=self.used & ~gone[:, None],
        )

    def to(self, device: torch.device | torch.dtype) -> "MaskedMemory":
        """The memory on another device, or its numbers in another precision."""
        if isinstance(device, torch.dtype):
            return self._map(lambda tensor: tensor.to(device) if tensor.is_floating_point() else tensor)
        return self._map(lambda tensor: tensor.to(device))

    def squared_norm(self) -> Tensor:
        """Squared norm of W_m, (B,), float64."""
        return self.weight.double().square().flatten(1).sum(dim=1)

    def random_like(self, generators: Sequence[torch.Generator]) -> "MaskedMemory":
        """A memory with these masks and a random W_m of the same norm."""
        noise = torch.zeros_like(self.weight)
        for case, generator in enumerate(generators):
            drawn = torch.randn(self.weight.shape[1:], generator=generator).to(noise)
            noise[case] = drawn * (self.weight[case].norm() / drawn.norm())
        return replace(self, weight=noise)
