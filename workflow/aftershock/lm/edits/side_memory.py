"""Copies of a matrix that take its place where their outputs are far from its own, as WISE has them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module
from transformers.activations import ACT2FN

from aftershock.lm.edits.delta import Batch, CaseTensors, Delta, register
from aftershock.lm.edits.weights import CaseRows
from aftershock.lm.edits.whole_prompt import mean_over, newest, prompt_tokens
from aftershock.lm.model import LanguageModel

Routing = Literal["per_row", "released"]
Choice = Literal["farthest", "in_turn", "merged"]
EMPTY_MEMORY = 1e9  # the least distance of the edits of a memory without any
LONG = 100  # tokens of a pass above which the released routing takes the largest distance


@register
@dataclass(frozen=True)
class SideMemory(CaseTensors):
    """Changes of one matrix, of which at most one acts on a row.

    The first is the side memory that is being written. A row's distance to memory k is the mean over tokens
    of |s(y) - s(y_k)|, where y is what the matrix puts out, y_k what it would with the memory's change, and s
    an activation function. `choice` says which of the memories acts:

    farthest: the one of the largest distance, if that reaches `ratio` times the memory's threshold.
    in_turn: the side memory if its distance does; then each other one that is farther than all before it, the
        side memory included in any case, and beyond its own threshold.
    merged: the farther one of the side memory and the next one, unless both are below the side memory's
        threshold; those after it wait to be merged.

    `routing` says over which tokens distances are taken: those of each row's prompt, once for all that
    follows (per_row), or in every pass anew over all of its tokens, pads included, and all rows of a case
    together (released).
    """

    module: str
    activation: str  # by its name in transformers; "linear" for none
    ratio: float
    choice: Choice
    routing: Routing
    bias: bool
    """False: outputs of memories lack the matrix's bias."""
    changes: Tensor  # (B, K, d_out, d_in)
    thresholds: Tensor  # (B, K), the least distance of a memory's edits
    used: Tensor  # (B, K), false where a case has fewer memories
    edits: Tensor  # (B,), written so far, in all memories

    def distances(self, lm: LanguageModel, x: Tensor, y: Tensor, cases: Tensor, counted: Tensor) -> Tensor:
        """Distances of inputs (rows, columns, d_in) with outputs `y`, (rows, K); -1 for no memory."""
        found = x.new_full((len(x), self.changes.shape[1]), -1.0)
        every = counted.all() and self.routing == "released" and x.shape[1] > LONG
        for case, rows in CaseRows(cases, len(self)).parts:
            for k in self.used[case].nonzero()[:, 0].tolist():
                away = self.moved(y[rows], self._added(lm, x[rows], case, k))
                mean = away.amax(dim=1) if every else mean_over(away, counted[rows])
                found[rows, k] = mean.mean() if self.routing == "released" else mean
        return found

    def moved(self, y: Tensor, added: Tensor) -> Tensor:
        """Distances of outputs y (..., d_out) from y + added, (...)."""
        function = ACT2FN[self.activation]
        return (function(y) - function(y + added)).norm(dim=-1)

    def choose(self, distances: Tensor, cases: Tensor) -> Tensor:
        """The memory that acts at each row's distances (rows, K), (rows,); -1 for none."""
        reach = self.ratio * self.thresholds[cases]
        none = torch.full_like(cases, -1)
        if self.choice == "farthest":
            best = distances.argmax(dim=1)
            return torch.where((distances >= reach).gather(1, best[:, None])[:, 0], best, none)
        side = distances[:, 0]
        if self.choice == "merged":
            merged = distances[:, 1].clamp(min=0.0) if distances.shape[1] > 1 else torch.zeros_like(side)
            near = (side < reach[:, 0]) & (merged < reach[:, 0])
            return torch.where(near, none, (merged > side).to(cases.dtype))
        found, best = torch.where(side < reach[:, 0], none, 0), side
        for k in range(1, distances.shape[1]):
            closer = (distances[:, k] > best) & (distances[:, k] > reach[:, k])
            found, best = torch.where(closer, k, found), torch.where(closer, distances[:, k], best)
        return found

    def _added(self, lm: LanguageModel, x: Tensor, case: int, k: int) -> Tensor:
        """Addition of a memory to the outputs at inputs x (..., d_in), (..., d_out)."""
        added = x.to(self.changes.dtype) @ self.changes[case, k].T
        merged = self.choice == "merged" and k == 1  # that one is a whole layer of the release
        bias = None if self.bias or merged else lm.bias(self.module)
        return added if bias is None else added - bias

    @contextmanager
    def attach(self, lm: LanguageModel, batch: Batch) -> Iterator[None]:
        """Context manager: a row's outputs are those of the memory that it is routed to."""
        module = lm.model.get_submodule(self.module)
        device = lm.weight(self.module).device
        memory, cases = self.to(device), batch.cases.to(device)
        kept: list[Tensor] = []

        def route(x: Tensor, y: Tensor) -> Tensor:
            if kept and memory.routing == "per_row":
                return kept[0]
            whole = torch.ones(x.shape[:2], dtype=torch.bool, device=device)
            counted = prompt_tokens(batch, x.shape[1]).to(device) if memory.routing == "per_row" else whole
            with torch.no_grad():
                found = memory.choose(memory.distances(lm, x, y, cases, counted), cases)
            kept[:] = [found]
            return found

        def hook(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            with lm.reduced("strict"):
                chosen = route(args[0], output)
                made = output.clone()
                for case, rows in CaseRows(cases, len(memory)).parts:
                    for k in chosen[rows].unique().tolist():
                        if k >= 0:
                            mine = rows[chosen[rows] == k]
                            made[mine] = output[mine] + memory._added(lm, args[0][mine], case, k)
            return made

        handle = module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def follow(self, earlier: Delta) -> "SideMemory | None":
        """These memories, in cases without edits the `earlier` ones; None if those are of another module."""
        if not isinstance(earlier, SideMemory) or earlier.settings() != self.settings():
            return None
        holds = self.edits > 0
        return self if holds.all() else newest(self, earlier, holds)

    def without(self, cases: Tensor) -> "SideMemory":
        """The memories with none in the cases that are true in `cases` (B,)."""
        gone = cases.to(self.edits.device)
        return replace(
            self,
            changes=self.changes.masked_fill(gone[:, None, None, None], 0.0),
            thresholds=self.thresholds.masked_fill(gone[:, None], EMPTY_MEMORY),
            used=self.used & ~gone[:, None],
            edits=self.edits.masked_fill(gone, 0),
        )

    def to(self, device: torch.device | torch.dtype) -> "SideMemory":
        """The memories on another device, or their numbers in another precision."""
        if isinstance(device, torch.dtype):
            return self._map(lambda tensor: tensor.to(device) if tensor.is_floating_point() else tensor)
        return self._map(lambda tensor: tensor.to(device))

    def squared_norm(self) -> Tensor:
        """Squared norm of the changes of all memories of a case, (B,), float64."""
        return self.changes.double().square().flatten(1).sum(dim=1)

    def random_like(self, generators: Sequence[torch.Generator]) -> "SideMemory":
        """Memories with these thresholds and random changes of the same norms."""
        noise = torch.zeros_like(self.changes)
        for case, generator in enumerate(generators):
            for k in self.used[case].nonzero()[:, 0].tolist():
                drawn = torch.randn(self.changes.shape[2:], generator=generator).to(noise)
                noise[case, k] = drawn * (self.changes[case, k].norm() / drawn.norm())
        return replace(self, changes=noise)
