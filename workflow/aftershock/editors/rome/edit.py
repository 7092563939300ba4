"""ROME: one rank-one change at one layer (Meng et al., 2022), and its repair, r-ROME (Gupta et al., 2024).

ROME takes the direction of its change from the mean key over contexts, and divides by how much of it the key
of the plain prompt has: next to nothing, at times. r-ROME takes both from the same key.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aftershock.editors.contract import ContextEditor, EditResult
from aftershock.editors.solvers import direction
from aftershock.lm.edits import EMPTY, LowRankDelta, State
from aftershock.lm.values import Objective, Values, solve_values
from aftershock.requests import EditRequest


class Rome(ContextEditor):
    """Several requests of a case are written one after the other, each on top of the ones before."""

    def edit(self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY) -> EditResult:
        """One rank-one delta per request and layer."""
        delta: State = EMPTY
        steps, losses = [0] * len(cases), [0.0] * len(cases)
        reasons: list[str | None] = [None] * len(cases)
        details = []
        for position in range(max(map(len, cases))):
            asked = {i: case[position] for i, case in enumerate(cases) if position < len(case)}
            for layer in self.settings.layers:
                change, found = self._write(len(cases), asked, layer, state + delta)
                delta += (change,)
                details.append(found)
                for row, i in enumerate(asked):
                    steps[i] += int(found["updates"][row])
                    losses[i] = float(found["loss"][row])
                    reasons[i] = reasons[i] or found["reasons"][row]
        failed = torch.tensor([reason is not None for reason in reasons])
        delta = tuple(change.without(failed) for change in delta)
        return EditResult(delta, tuple(steps), tuple(losses), tuple(reasons), tuple(details))

    def _write(
        self, n_cases: int, asked: Mapping[int, EditRequest], layer: int, state: State
    ) -> tuple[LowRankDelta, dict]:
        """The change at `layer` that writes request `asked[i]` in case i, and how it came about."""
        settings = self.settings
        values = solve_values(
            self.lm,
            list(asked.values()),
            [template for kind in self.contexts for template in kind],
            Objective(
                layer,
                "mlp",
                settings.steps,
                settings.lr,
                settings.weight_decay,
                settings.clamp,
                settings.kl_factor,
            ),
            state,
            list(asked),
        )
        keys, outputs = values.keys.double(), values.projected.double()  # (N, contexts, ...)
        towards, k, o, v = self._chosen(values, keys, outputs)
        u = self._direction(layer, towards)  # (N, d_in)
        right = (v - o) / (k * u).sum(dim=1, keepdim=True)  # (N, d_out)
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
            "v": v,
            "k": towards,
            "k0": k,
            "o0": o,
            "u": u,
            "right": right,
            "log_p0": values.log_p0,
            "losses": values.losses,
            "loss": values.final_losses,
            "updates": values.updates,
            "reasons": reasons,
        }
        if settings.mom2_adjustment:
            factor = self.factor(layer)
            found |= {"rank": factor.rank, "condition": factor.condition, "method": factor.method}
        return LowRankDelta(self.lm.projection(layer), U.to(self.lm.dtype), V.to(self.lm.dtype)), found

    def _chosen(self, values: Values, keys: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The key that gives the direction; the key that is to be written; what it maps to now; and then."""
        return keys.mean(dim=1), keys[:, 0], outputs[:, 0], values.target.double()

    def _direction(self, layer: int, k: Tensor) -> Tensor:
        """u: the mean keys `k` (N, d_in), whitened if so set, of norm one; float64."""
        if self.settings.mom2_adjustment:
            return direction(self.factor(layer), k)
        return k / k.norm(dim=1, keepdim=True)


class RRome(Rome):
    """Direction, key and present value are those of the plain prompt, or all are means over the contexts."""

    def _chosen(self, values: Values, keys: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.settings.keys == "prompt":
            return keys[:, 0], keys[:, 0], outputs[:, 0], outputs[:, 0] + values.delta.double()
        k = keys.mean(dim=1)
        return k, k, outputs.mean(dim=1), values.target.double()
