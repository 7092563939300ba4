"""ROME's equation: the direction of the mean key over contexts, the key of the plain prompt."""

from torch import Tensor

from aftershock.editors.rank_one import Equation, RankOneEditor
from aftershock.lm.optimisation.values import Values


class Rome(RankOneEditor):
    """Where the plain prompt's key has next to nothing of the mean key's direction, the change explodes."""

    def equation(self, values: Values, keys: Tensor, outputs: Tensor) -> Equation:
        """Return the mean key for the direction, the plain prompt's for the division (released code)."""
        return Equation(keys.mean(dim=1), keys[:, 0], outputs[:, 0], values.target.double())
