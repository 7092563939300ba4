"""The state after many edits, in the memory of the changed weights, however many edits there are."""

from dataclasses import replace

import torch

from aftershock.lm.edits.codebook import Codebook
from aftershock.lm.edits.delta import Delta
from aftershock.lm.edits.dense import Dense
from aftershock.lm.edits.low_rank import LowRank
from aftershock.lm.edits.scale import Scale
from aftershock.lm.edits.state import State, acting, in_weights
from aftershock.lm.edits.weights import WeightDelta


def accumulate(state: State, delta: State) -> State:
    """Return `state`, which this function made, with the changes of `delta` made after it.

    Changes of one weight add up to one matrix in float32 at least, which is written in place: a state that
    was returned before is no longer what it was. The same changes in the same order give the same bits. As in
    `join`, nothing is moved across a delta of another kind; of those, ones that follow each other are one.
    Tensors are laid out anew as files hold them: products of another layout differ in their last bits.
    """
    for change in delta:
        state = _added(state, change) if in_weights(change) else acting((*state, change))
    return state


def is_increment(delta: Delta) -> bool:
    """Return True for a change that is small and counts beside earlier ones: factors, rows, or text.

    A whole matrix is as large as all of them together, and a codebook stands for those before it.
    """
    return delta.factors() is not None if in_weights(delta) else not isinstance(delta, Codebook)


def bytes_of(state: State) -> int:
    """Return the bytes of all tensors of a state."""
    return sum(t.numel() * t.element_size() for delta in state for t in delta.tensors().values())


def _added(state: State, change: WeightDelta) -> State:
    """The state with `change` in the total of its module, or as a total of its own."""
    for i in range(len(state) - 1, -1, -1):
        total = state[i]
        if not in_weights(total):
            break
        if total.module == change.module:
            return (*state[:i], _sum(total, change), *state[i + 1 :])
    return (*state, _total(change))


def _total(change: WeightDelta) -> Dense | Scale:
    """A change as a matrix of its own."""
    exact = torch.promote_types(change.dtype, torch.float32)
    kind = Dense if len(change.shape) == 2 else Scale
    device = next(iter(change.tensors().values())).device
    weight = torch.zeros(len(change), *change.shape, dtype=exact, device=device)
    return _sum(kind(change.module, weight), change)


def _sum(total: Delta, change: WeightDelta) -> Dense | Scale:
    """`total` with `change` added in place, as a new object: states are told apart by object identity."""
    assert isinstance(total, Dense | Scale)
    if isinstance(change, LowRank):
        U, V = (factor.to(total.weight).contiguous() for factor in (change.U, change.V))
        total.weight.baddbmm_(V.mT, U)
    else:
        total.weight.add_(change.dense().to(total.weight))
    if change.bias is None:
        return replace(total)
    more = change.bias.to(total.weight)
    return replace(total, bias=more.clone() if total.bias is None else total.bias.add_(more))
