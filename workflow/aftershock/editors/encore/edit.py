"""ENCORE: X = (lambda C + mu 1 + S + K K^T)^-1 K in each layer (Gupta et al., 2025, arXiv 2502.01636)."""

from dataclasses import replace

from aftershock.editors.moment_weighted import MomentWeightedEditor
from aftershock.lm.optimisation.objective import Objective

RELEASED_TOKENS = 5
"""Right tokens at which the released code counts a step: those of five contexts and a target of one token. A
target of several meets the number by accident, or never."""


class Encore(MomentWeightedEditor):
    """MEMIT with a ridge and earlier edits' keys; a value ends once its target is the likeliest text."""

    def objective(self, layer: int) -> Objective:
        """Return how values of `layer` are optimised."""
        objective = super().objective(layer)
        if self.settings.variant == "released" and objective.prob_cutoff_tokens is None:
            return replace(objective, prob_cutoff_tokens=RELEASED_TOKENS)
        return objective
