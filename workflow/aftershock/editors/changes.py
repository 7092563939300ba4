"""Whole changes of weights in a state, for editors whose next change depends on them."""

from torch import Tensor

from aftershock.lm.edits import State, join
from aftershock.lm.edits.state import in_weights
from aftershock.lm.edits.weights import WeightDelta


def change_of(module: str, state: State) -> WeightDelta | None:
    """Return the whole change of a module's weight in `state`; None where it has none."""
    found = join(tuple(delta for delta in state if in_weights(delta) and delta.module == module))
    return next((delta for delta in found if in_weights(delta)), None)


def times(change: WeightDelta, keys: Tensor) -> Tensor:
    """Return the change times each key, (B, n, d_in) -> (B, n, d_out), in the keys' precision."""
    if (factors := change.factors()) is None:
        return keys @ change.dense().to(keys).mT
    U, V = (factor.to(keys) for factor in factors)
    return (keys @ U.mT) @ V
