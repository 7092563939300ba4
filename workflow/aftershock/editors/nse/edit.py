"""NSE: least squares restricted to the neurons I that requests use most, in passes over the layers (2024).

    Delta[:, I] = R K_I^T (lambda C_II + S_II + K_I K_I^T)^-1

The values of all requests are those of the unedited model, whatever state an edit starts from. Each pass
takes the requests whose distance |z - h| lies between two bounds; I has the neurons with the largest sums of
|k| over them, up to a share p of the whole. So the requests of one edit share their neurons; the released
code has a selection for each request in comments only.

At p = 1 the released code decides by the rounding of a running sum in float32 whether the neuron that fires
least is written (`variant: released`); by default p = 1 is all neurons. On a GPT-2 of four layers whose
edits were recorded, four requests at p = 1 leave out one of 256 neurons in one layer, which moves the change
by .10 of its norm; the released code with one thread and with two differs from itself by .27.

Its values are those of targets without the space before them where the data set has none; here a target
always goes on with the text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contract import Memory
from aftershock.editors.moment_weighted import MomentWeightedEditor, described
from aftershock.editors.multi_layer import AdjustedKeys, sound
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.editors.request_batch import RequestBatch, mean_by
from aftershock.editors.solvers import Factor
from aftershock.lm.edits import EMPTY, State, join
from aftershock.lm.hooks import Streams
from aftershock.lm.optimisation.values import Values

Look = tuple[Tensor, Tensor, Streams | None]
"""Mean keys of a layer (N, d_in), what values are of (N, d), and the streams for the next look."""


class Nse(MomentWeightedEditor):
    """NSE: a factorisation for each case and layer, unless all neurons are written."""

    def adjust_keys(self, layer: int, K: Tensor, previous: PreviousKeys) -> AdjustedKeys:
        """Return X^T for the keys K^T of each case, zero at neurons that are not selected."""
        chosen = self.neurons(K)
        if bool(chosen.all()):
            found = super().adjust_keys(layer, K, previous)
            return AdjustedKeys(found.rows, {**found.diagnostics, "neurons": chosen})
        weight, rows = self.mom2_weights[layer], torch.zeros_like(K)
        base = weight * self.factor(layer).matrix
        diagnostics: dict[str, Any] = {"mom2_weight": weight, "neurons": chosen}
        for i in K.ne(0).flatten(1).any(dim=1).nonzero()[:, 0].tolist():
            some = chosen[i].nonzero()[:, 0]
            system = base[some][:, some]
            if previous.matrix is not None:
                system = system + previous.matrix[i][some][:, some]
            factor = Factor.of(system, f"the second moments of the selected neurons of layer {layer}")
            latest = None if previous.keys is None else previous.keys[i : i + 1, :, some]
            rows[i][:, some] = self.solution(factor, 1.0, K[i : i + 1, :, some], latest).rows[0]
            diagnostics |= described(factor)
        return AdjustedKeys(rows, diagnostics)

    def neurons(self, K: Tensor) -> Tensor:
        """Return the neurons that are written for the keys K^T (B, n, d) of each case, (B, d)."""
        share, released = self.settings.neuron_share, self.settings.variant == "released"
        if share == 1 and not released:
            return torch.ones_like(K[:, 0], dtype=torch.bool)
        scores = (K.float() if released else K).abs().sum(dim=1)
        ordered, place = scores.sort(dim=1, descending=True, stable=True)
        parts = scores.chunk(self.settings.threads if released else 1, dim=1)
        total = torch.stack([part.sum(dim=1, keepdim=True) for part in parts]).sum(dim=0)
        within = ordered.cumsum(dim=1) <= share * total
        within[:, 0] = True  # a neuron that is more than the share by itself
        last = (within * torch.arange(within.shape[1], device=K.device)).amax(dim=1, keepdim=True)
        kept = torch.arange(within.shape[1], device=K.device) <= last
        return torch.zeros_like(kept).scatter(1, place, kept)

    def _solve(self, batch: RequestBatch, state: State) -> tuple[Values, Tensor]:
        """The values on the unedited model."""
        return super()._solve(batch, EMPTY)

    def _spread(
        self,
        batch: RequestBatch,
        values: Values,
        unit: Tensor,
        reasons: Sequence[str | None],
        state: State,
        memory: Memory | None,
    ) -> tuple[State, list[str | None], list[dict[str, Any]]]:
        """The change of each layer over all passes; failed cases have none."""
        why, owner = list(reasons), batch.owner.tolist()
        first = min(self.settings.layers)
        target = mean_by(values.target.double(), unit)
        delta: State = EMPTY
        diagnostics: list[dict[str, Any]] = []
        for number in range(self.settings.max_iterations - 1):
            look = self._look(batch, first, state + delta, None)
            distance = (target - look[1].double()).norm(dim=1)
            taken = self._within(distance)
            for i, far, chosen in zip(owner, distance.tolist(), taken.tolist(), strict=True):
                if why[i] is None and not torch.tensor(far).isfinite():
                    why[i] = f"the distance from a value is {far}, which is not finite"
                elif number == 0 and not chosen and not taken[batch.owner == i].any():
                    why[i] = why[i] or self._fault(far)
            failed = torch.tensor([reason is not None for reason in why], device=self.lm.device)
            taken &= ~failed[batch.owner]
            if number and not taken.any():
                break  # but not before every layer has a delta, if of nothing
            change, found = self._pass(batch, target, taken, look, state + delta, memory, failed)
            diagnostics += [{**layer, "pass": number, "distance": distance} for layer in found]
            delta = join(delta + change)
        delta, why = sound(delta, why)
        return delta, why, diagnostics + self._final_keys(batch, why, state + delta)

    def _within(self, distance: Tensor) -> Tensor:
        """The requests that a pass takes, by their distance from their values; (N,)."""
        limit = self.settings.max_distance
        far = distance > self.settings.min_distance
        return far if limit is None else far & (distance < limit)

    def _fault(self, distance: float) -> str | None:
        """Reason why a case without any request to take has failed; None where it is close enough."""
        limit = self.settings.max_distance
        if limit is None or distance < limit:
            return None
        return (
            f"its requests are as far from their values as max_distance ({distance:.3g}, limit {limit:g}), "
            "and are never written; raise max_distance, or lower clamp"
        )

    def _pass(
        self,
        batch: RequestBatch,
        target: Tensor,
        taken: Tensor,
        look: Look,
        state: State,
        memory: Memory | None,
        failed: Tensor,
    ) -> tuple[State, list[dict[str, Any]]]:
        """Write the requests `taken` (N,) in each layer in turn; return the change and its diagnostics."""
        layers = sorted(self.settings.layers)
        keys, hidden, streams = look
        delta: State = EMPTY
        found: list[dict[str, Any]] = []
        for done, layer in enumerate(layers):
            if done:
                keys, hidden, streams = self._look(batch, layer, state + delta, streams)
            residual = (target - hidden.double()).masked_fill(~taken[:, None], 0.0)
            share = residual / (len(layers) - done) / self.lm.mlp_scale
            K = batch.by_case(keys.masked_fill(~taken[:, None], 0.0), failed)
            change = self.change(layer, K, batch.by_case(share, failed), state + delta, memory)
            delta += (self.after_layer(change.delta, state + delta),)
            known = {"layer": layer, "K": K, "hidden": hidden, "residual": residual, "taken": taken}
            found.append({**known, "R": batch.by_case(share, failed), **change.diagnostics})
        return delta, found

    def _final_keys(
        self, batch: RequestBatch, reasons: Sequence[str | None], state: State
    ) -> list[dict[str, Any]]:
        """The keys of all requests in every layer after the last pass, which later edits know."""
        if not self.settings.previous_keys:
            return []
        failed = torch.tensor([reason is not None for reason in reasons], device=self.lm.device)
        found, streams = list[dict[str, Any]](), None
        for layer in sorted(self.settings.layers):
            keys, hidden, streams = self._look(batch, layer, state, streams)
            found.append({"layer": layer, "K": batch.by_case(keys, failed), "hidden": hidden})
        return found
