"""States: several deltas at once, applied to a model, merged, measured and redrawn."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeGuard

import torch
from torch import Tensor

from aftershock.lm.edits.delta import Batch, Delta
from aftershock.lm.edits.dense import Dense
from aftershock.lm.edits.low_rank import LowRank
from aftershock.lm.edits.scale import Scale
from aftershock.lm.edits.weights import WeightDelta
from aftershock.lm.model import LanguageModel

State = tuple[Delta, ...]
EMPTY: State = ()

MANY = 4  # deltas of one module from which on merging them is worth a copy


@contextmanager
def apply_deltas(lm: LanguageModel, deltas: State, batch: Batch) -> Iterator[None]:
    """Context manager: row i of each pass inside runs with the deltas of case `batch.cases[i]`."""
    with ExitStack() as stack:
        for delta in acting(deltas):
            stack.enter_context(delta.attach(lm, batch))
        yield


def acting(state: State) -> State:
    """The deltas that act: those merged into a later one are left out (`Delta.follow`)."""
    found: list[Delta] = []
    for delta in state:
        together = delta.follow(found[-1]) if found else None
        if together is not None:
            found.pop()
        found.append(delta if together is None else together)
    return tuple(found)


def rewrite_prompts(
    lm: LanguageModel, state: State, prompts: Sequence[str], cases: Sequence[int]
) -> list[str]:
    """The prompts as the model reads them in `state`, prompt i in case `cases[i]`.

    Editors that work in context put text before a prompt; a later delta's text comes before an earlier one's,
    unless the two act as one (`Delta.follow`). Everything that encodes prompts for a state calls this.
    """
    read: Sequence[str] = list(prompts)
    for delta in acting(state):
        read = delta.rewrite(lm, read, cases)
    for old, new in zip(prompts, read, strict=True):
        if not new.endswith(old):
            raise ValueError(f"a delta rewrote prompt {old!r} as {new!r}; it may only put text before it")
    return list(read)


def first_layer(states: Sequence[State]) -> int:
    """The lowest layer that any of `states` changes; 0 where none changes anything.

    BEHIND_LAYERS where all changes are behind the layers.
    """
    return min((delta.first_layer for state in states for delta in state), default=0)


def per_token(state: State) -> bool:
    """True if every change at a token depends on that token alone, so that tokens can be left out."""
    return all(delta.per_token for delta in state)


def select(state: State, indices: Sequence[int]) -> State:
    """The state of some of the cases, in the order of `indices`."""
    return tuple(delta.select(indices) for delta in state)


def scatter_cases(state: State, indices: Sequence[int], size: int) -> State:
    """`state` of the cases `indices` as that of `size` cases, nothing changed in the other ones."""
    if len(indices) == size:
        return state
    place = [0] * size
    for row, i in enumerate(indices):
        place[i] = row
    absent = torch.ones(size, dtype=torch.bool)
    absent[list(indices)] = False
    return tuple(delta.without(absent) for delta in select(state, place))


def join(deltas: State) -> State:
    """Merge the deltas of each changed weight into one, in the order of their first ones.

    Low-rank ones are concatenated along r in the order of the edits; with others they add up to a matrix.
    Deltas of other kinds stay where they are, and nothing is moved across one: it may read or replace what
    the weights output. A codebook stands for those before it.
    """
    return tuple(map(_sum, _groups(acting(deltas))))


def compact(deltas: State, tokens: float = 0) -> State:
    """Merge the deltas of each changed weight as `join` does, in the cheapest form.

    `tokens` are those that will run in each case: with enough of them it pays to build a matrix from factors
    whose rank is close to the matrix's own or beyond.
    """
    return _cheapest(join(deltas), tokens)


def merge_many(deltas: State, tokens: float = 0) -> State:
    """`deltas` in their cheapest forms, joined where a weight has many: a few cost less than a copy."""
    joined = _last_join.get(deltas)
    if joined is None:
        groups = _groups(deltas)
        if not any(len(group) >= MANY for group in groups):
            return _cheapest(deltas, tokens)
        joined = tuple(map(_sum, groups))
        _last_join.keep(deltas, joined)
    return _cheapest(joined, tokens)


class _LastJoin:
    """Cache of the last join, as long as all of its deltas are in use.

    A long sequence is asked about in many passes, and copying its factors takes longer than a short one.
    """

    def __init__(self) -> None:
        self._deltas: list[weakref.ref[Delta]] = []
        self._joined: State = ()

    def get(self, deltas: State) -> State | None:
        """Return the join of these very deltas if they were the last ones, else None."""
        same = len(deltas) == len(self._deltas) and all(
            kept() is delta for kept, delta in zip(self._deltas, deltas, strict=True)
        )
        return self._joined if same and deltas else None

    def keep(self, deltas: State, joined: State) -> None:
        """Keep `joined` until another is kept, or one of `deltas` is gone."""
        self._deltas, self._joined = [weakref.ref(delta, self._forget) for delta in deltas], joined

    def _forget(self, gone: weakref.ref[Delta]) -> None:
        if any(kept is gone for kept in self._deltas):
            self._deltas, self._joined = [], ()


_last_join = _LastJoin()


def in_weights(delta: Delta) -> TypeGuard[WeightDelta]:
    """True for a change of one module's weight and bias."""
    return delta.in_weights


def _cheapest(deltas: State, tokens: float) -> State:
    return tuple(delta.compact(tokens) if in_weights(delta) else delta for delta in deltas)


def _groups(deltas: State) -> list[list[Delta]]:
    """Deltas of one weight with no delta of another kind between them, in the order of their first ones."""
    groups: list[list[Delta]] = []
    of_module: dict[str, list[Delta]] = {}
    for delta in deltas:
        if not in_weights(delta):
            groups.append([delta])
            of_module = {}
        elif (group := of_module.get(delta.module)) is not None:
            group.append(delta)
        else:
            groups.append([delta])
            of_module[delta.module] = groups[-1]
    return groups


def _sum(group: Sequence[Delta]) -> Delta:
    """Merge a group of deltas into one."""
    if len(group) == 1:
        return group[0]
    deltas = [delta for delta in group if in_weights(delta)]
    factors = [delta.factors() for delta in deltas]
    if None not in factors:
        U, V = (torch.cat(parts, dim=1) for parts in zip(*factors, strict=True))
        return LowRank(deltas[0].module, U, V)
    biases = [delta.bias for delta in deltas if delta.bias is not None]
    low = [pair for pair in factors if pair is not None]
    parts = [delta.dense() for delta, pair in zip(deltas, factors, strict=True) if pair is None]
    if low:  # one product for all of them
        U, V = (torch.cat(some, dim=1) for some in zip(*low, strict=True))
        parts.append(V.mT @ U)
    kind = Dense if parts[0].ndim == 3 else Scale
    return kind(deltas[0].module, sum(parts[1:], parts[0]), sum(biases[1:], biases[0]) if biases else None)


def state_norm(state: State) -> Tensor:
    """Frobenius norm of each case's whole change, (B,), float64; the deltas of one module add up first."""
    total = sum(delta.squared_norm() for delta in join(state))
    return torch.as_tensor(total, dtype=torch.float64).sqrt()


def random_like(state: State, seeds: Sequence[int]) -> State:
    """A random change with `state`'s modules, ranks, and norm in each module, per case.

    One seed per case, so that a case's draw does not depend on the cases beside it.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return tuple(delta.random_like(generators) for delta in join(state))
