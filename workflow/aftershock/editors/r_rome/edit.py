"""r-ROME's equation: one key for direction and division."""

from torch import Tensor

from aftershock.editors.rank_one import Equation, RankOneEditor
from aftershock.lm.optimisation.values import Values


class RRome(RankOneEditor):
    """r-ROME: direction, key and output of the plain prompt, or the means of all three over contexts."""

    def equation(self, values: Values, keys: Tensor, outputs: Tensor) -> Equation:
        """Return the equation of the key that the settings name."""
        if self.settings.keys == "prompt":
            k, o = keys[:, 0], outputs[:, 0]
            return Equation(k, k, o, o + values.change.double())
        k = keys.mean(dim=1)
        return Equation(k, k, outputs.mean(dim=1), values.target.double())
