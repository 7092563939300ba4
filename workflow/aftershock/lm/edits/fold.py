"""Temporary folding of a change into a model's weights, for code that cannot use hooks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from aftershock.lm.edits.state import State, in_weights, join, select
from aftershock.lm.edits.weights import WeightDelta
from aftershock.lm.families import layer_number
from aftershock.lm.model import LanguageModel


@contextmanager
def fold(lm: LanguageModel, deltas: State, case: int) -> Iterator[None]:
    """Context manager: the model's own weights hold the changes of one case.

    They are added up in float32 at least and rounded to the weights' precision once. Afterwards the weights
    are, bit for bit, what they were, and so they are after an error; folds may be nested. ValueError names a
    delta that cannot be held by weights.
    """
    changes = [_checked(lm, delta) for delta in join(of_case(deltas, case)) if in_weights(delta)]
    saved: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for delta in changes:
                module = lm.model.get_submodule(delta.module)
                _add(lm.family.weight(module), delta.dense()[0], saved)
                if delta.bias is not None:
                    _add(module.bias, delta.bias[0], saved)
        yield
    finally:
        with torch.no_grad():
            for weight, before in reversed(saved):
                weight.copy_(before)


def of_case(deltas: State, case: int) -> State:
    """The deltas of one case, in float32 at least; ValueError names one that is not a change of weights."""
    for delta in deltas:
        if not delta.in_weights:
            raise ValueError(
                f"{delta.name} is not a change of weights, so no weights can hold it: apply it while the "
                "model runs (apply_deltas), or leave it out"
            )
        if not 0 <= case < len(delta):
            raise ValueError(f"there is no case {case}: {delta.name} has cases 0 to {len(delta) - 1}")
    changes = filter(in_weights, select(deltas, [case]))
    return tuple(delta.to(torch.promote_types(delta.dtype, torch.float32)) for delta in changes)


def _checked(lm: LanguageModel, delta: WeightDelta) -> WeightDelta:
    """`delta`, if weights of the model can hold it and nothing but its module would change."""
    module = lm.model.get_submodule(delta.module)
    if layer_number(delta.module) is None:
        raise ValueError(f"{delta.name}: only matrices inside layers can be changed")
    users = [
        name for name, other in lm.model.named_modules() if getattr(other, "weight", None) is module.weight
    ]
    if len(users) > 1:
        raise ValueError(f"{delta.name}: its weight is also that of {', '.join(set(users) - {delta.module})}")
    wanted = tuple(lm.family.weight(module).shape)
    if delta.shape != wanted:
        raise ValueError(f"{delta.name} is for a weight of {delta.shape}, but the model's is {wanted}")
    if delta.bias is not None and not isinstance(module.bias, nn.Parameter):
        raise ValueError(f"{delta.name} changes a bias, but the module has none")
    return delta


def _add(weight: Tensor, change: Tensor, saved: list[tuple[Tensor, Tensor]]) -> None:
    """Add `change` to `weight` in place, after saving the old values."""
    saved.append((weight, weight.clone()))
    exact = torch.promote_types(weight.dtype, torch.float32)
    weight.copy_(weight.to(exact) + change.to(weight.device, exact))
