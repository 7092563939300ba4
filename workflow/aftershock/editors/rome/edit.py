"""ROME's equation: the direction of the mean key over contexts, the key of the plain prompt."""

from torch import Tensor

from aftershock.editors.rank_one import Equation, RankOneEditor
from aftershock.lm.optimisation.values import Values


class Rome(RankOneEditor):
    """ROME; the change explodes if the plain prompt's key has almost no part in the mean key's direction."""

    def equation(self, values: Values, keys: Tensor, outputs: Tensor) -> Equation:
        """Return the equation: mean key for the direction, plain prompt's for the division (as released)."""
        return Equation(keys.mean(dim=1), keys[:, 0], outputs[:, 0], values.target.double())
