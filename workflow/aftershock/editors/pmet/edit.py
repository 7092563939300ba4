"""PMET: optimised outputs of the last edited layer's attention and MLP, spread over several layers.

Two vectors are optimised at once, one added to the attention's output and one to the MLP's (Li et al., 2024,
as in EasyEdit). Every layer then writes a share of what the last layer's module still lacks, divided by the
root of the number of layers left where MEMIT divides by the number.

The released code reads the keys of both modules at once where the model's name has "gpt-j" in it; elsewhere
it reads the second module's after the first one is written. GPT-J's attention and MLP read the same stream,
so that a change of one moves no key of the other in the same layer: there is one procedure here.
"""

import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contract import Memory
from aftershock.editors.moment_weighted import described, probe_weight
from aftershock.editors.multi_layer import AdjustedKeys, MultiLayerEditor, sound
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.editors.request_batch import RequestBatch, mean_by
from aftershock.editors.solvers import Factor, adjust, rounding
from aftershock.lm.edits import EMPTY, LowRank, State
from aftershock.lm.optimisation.values import Values

PARTS = ("attention", "mlp")  # of a value, in this order


class Pmet(MultiLayerEditor):
    """PMET: a value has a row for the attention and one for the MLP, (N, 2, d)."""

    @property
    def site(self) -> str:
        """The outputs of the last edited layer's attention and MLP."""
        return "both"

    def projection(self, part: str, layer: int) -> str:
        """Return the name of the matrix that a layer's attention or MLP ends with."""
        return {"attention": self.lm.attention_projection, "mlp": self.lm.projection}[part](layer)

    @cached_property
    def factors(self) -> dict[tuple[str, int], Factor]:
        """The second moments of what enters each matrix written, in a form to solve with."""
        found = {}
        for part in self.settings.modules:
            for layer in sorted(self.settings.layers):
                found[part, layer] = self.factor(layer) if part == "mlp" else self._attention_factor(layer)
        return found

    def _attention_factor(self, layer: int) -> Factor:
        moments = self.artifacts.get("attention_moments", {})
        if layer not in moments:
            raise ValueError(f"no second moments of the attention of layer {layer}; given: {sorted(moments)}")
        matrix = moments[layer].matrix.to(self.lm.device)
        return Factor.of(matrix, f"the second moments of the attention of layer {layer}")

    @cached_property
    def mom2_weights(self) -> dict[tuple[str, int], float]:
        """lambda of each matrix written; measured, a share of the median k^T C^-1 k of the probe keys."""
        weight = self.settings.mom2_weight
        if weight != "auto":
            return dict.fromkeys(self.factors, weight)
        found = {}
        for part in self.settings.modules:
            for layer, keys in self.probe_keys_of(partial(self.projection, part)).items():
                found[part, layer] = probe_weight(self.factors[part, layer], keys, layer)
        return found

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """lambda of each module by layer, where it is measured, and the norm of values."""
        found = dict(super().measured)
        if self.settings.mom2_weight == "auto":
            for (part, layer), weight in self.mom2_weights.items():
                name = "mom2_weight" if part == "mlp" else f"mom2_weight of the {part}"
                found.setdefault(name, {})[layer] = weight
        return found

    def adjust_keys(self, layer: int, K: Tensor, previous: PreviousKeys) -> AdjustedKeys:
        """Return X^T of a layer's MLP for the keys K^T of each case."""
        return self._adjust("mlp", layer, K)

    def _adjust(self, part: str, layer: int, K: Tensor) -> AdjustedKeys:
        factor, weight = self.factors[part, layer], self.mom2_weights[part, layer]
        rows = adjust(factor, weight, K)
        loose = rounding(factor, weight, K, rows, self.lm.dtype)
        return AdjustedKeys(rows, {**described(factor), "mom2_weight": weight, "rounding": loose})

    def _spread(
        self,
        batch: RequestBatch,
        values: Values,
        unit: Tensor,
        reasons: Sequence[str | None],
        state: State,
        memory: Memory | None,
    ) -> tuple[State, list[str | None], list[dict[str, Any]]]:
        """Change the modules of the layers in turn, each by a share of the current residual."""
        layers = sorted(self.settings.layers)
        failed = torch.tensor([reason is not None for reason in reasons], device=self.lm.device)
        target = mean_by(values.target.double().flatten(1), unit).unflatten(1, (len(PARTS), -1))
        delta: State = EMPTY
        diagnostics, streams = [], None
        for done, layer in enumerate(layers):
            for part in self.settings.modules:
                module, last = self.projection(part, layer), self.projection(part, layers[-1])
                keys, hidden, streams = self._look(batch, layer, state + delta, streams, module, last)
                residual = target[:, PARTS.index(part)] - hidden.double()
                residual = residual.masked_fill(failed[batch.owner, None], 0.0)
                share = residual / math.sqrt(len(layers) - done)
                K, R = batch.by_case(keys, failed), batch.by_case(share, failed)
                adjusted = self._adjust(part, layer, K)
                change = LowRank(module, adjusted.rows.to(self.lm.dtype), R.to(self.lm.dtype))
                delta += (self.after_layer(change, state + delta),)
                found = {"layer": layer, "module": module, "K": K, "hidden": hidden, "residual": residual}
                diagnostics.append({**found, "R": R, "adj_k": adjusted.rows, **adjusted.diagnostics})
        delta, why = sound(delta, reasons)
        return delta, why, diagnostics
