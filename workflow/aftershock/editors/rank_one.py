"""Rank-one changes that write one value at one key: shared by ROME and its variants (Meng et al., 2022).

The change is (v* - o) u^T / (k . u), with u along C^-1 of a key. Methods differ in the keys that they take
for u and for k, and in the output o that the value v* replaces.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.optimised import ValueEditor
from aftershock.editors.solvers import direction
from aftershock.lm.edits import EMPTY, LowRank, State
from aftershock.lm.optimisation.values import Values, solve_values
from aftershock.requests import EditRequest


@dataclass(frozen=True)
class Equation:
    """The keys and outputs of a rank-one change for N requests, float64."""

    towards: Tensor  # (N, d_in), whose whitened direction is u
    key: Tensor  # (N, d_in), k
    output: Tensor  # (N, d_out), o: the layer's output at the key before
    value: Tensor  # (N, d_out), v*: and after


class RankOneEditor(ValueEditor):
    """Base of rank-one methods; several requests of a case are written in turn, on top of each other."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one rank-one delta per request and layer."""
        delta: State = EMPTY
        steps, losses = [0] * len(cases), [0.0] * len(cases)
        reasons: list[str | None] = [None] * len(cases)
        diagnostics = []
        for position in range(max(map(len, cases))):
            asked = {i: case[position] for i, case in enumerate(cases) if position < len(case)}
            for layer in sorted(self.settings.layers):
                change, found = self._write(len(cases), asked, layer, state + delta)
                delta += (self.after_layer(change, state + delta),)
                diagnostics.append(found)
                for row, i in enumerate(asked):
                    steps[i] += int(found["updates"][row])
                    losses[i] = float(found["loss"][row])
                    reasons[i] = reasons[i] or found["reasons"][row]
        failed = torch.tensor([reason is not None for reason in reasons])
        delta = tuple(change.without(failed) for change in delta)
        return EditResult(delta, tuple(steps), tuple(losses), tuple(reasons), diagnostics=tuple(diagnostics))

    def _write(
        self, n_cases: int, asked: Mapping[int, EditRequest], layer: int, state: State
    ) -> tuple[LowRank, dict]:
        """Return the change at `layer` that writes request `asked[i]` in case i, and its diagnostics."""
        settings = self.settings
        values = solve_values(
            self.lm,
            list(asked.values()),
            self.templates,
            self.objective(layer),
            state,
            list(asked),
        )
        keys, outputs = values.keys.double(), values.projected.double()  # (N, contexts, ...)
        e = self.equation(values, keys, outputs)
        u = self._direction(layer, e.towards)  # (N, d_in)
        right = (e.value - e.output) / (e.key * u).sum(dim=1, keepdim=True)  # (N, d_out)
        reasons = [
            reason or (None if bool(row.isfinite().all()) else "the key has no component along the update")
            for reason, row in zip(values.reasons, right, strict=True)
        ]
        U = u.new_zeros(n_cases, 1, u.shape[1])
        V = right.new_zeros(n_cases, 1, right.shape[1])
        rows = list(asked)
        broken = ~right.isfinite().all(dim=1, keepdim=True)
        U[rows, 0], V[rows, 0] = u.masked_fill(broken, 0.0), right.masked_fill(broken, 0.0)
        found = {
            "layer": layer,
            "v0": values.init,
            "delta": values.delta,
            "v": e.value,
            "k": e.towards,
            "k0": e.key,
            "o0": e.output,
            "u": u,
            "right": right,
            "log_p0": values.log_p0,
            "losses": values.losses,
            "loss": values.final_losses,
            "updates": values.updates,
            "reasons": reasons,
            "norm": values.norms,
            "skipped": values.skipped,
        }
        if settings.mom2_adjustment:
            factor = self.factor(layer)
            found |= {"rank": factor.rank, "condition": factor.condition, "method": factor.method}
        return LowRank(self.lm.projection(layer), U.to(self.lm.dtype), V.to(self.lm.dtype)), found

    @abstractmethod
    def equation(self, values: Values, keys: Tensor, outputs: Tensor) -> Equation:
        """Return the equation to solve, from the optimised values, and from the keys (N, contexts, d_in) and
        outputs (N, contexts, d_out) of the layer before the edit.
        """

    def _direction(self, layer: int, k: Tensor) -> Tensor:
        """Return u: the keys `k` (N, d_in), whitened if so set, of norm one; float64."""
        if self.settings.mom2_adjustment:
            return direction(self.factor(layer), k)
        return k / k.norm(dim=1, keepdim=True)
