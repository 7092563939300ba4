"""The states of a block of cases: the edits that lead to each, and the state that it starts from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from aftershock.datasets.table import UNEDITED, State
from aftershock.editors.contract import Editor, EditResult, Memory
from aftershock.lm.edits import EMPTY, random_like, scatter_cases, select, state_norm
from aftershock.lm.edits import State as Deltas
from aftershock.requests import EditRequest
from aftershock.seeds import derive

Requests = Mapping[str, Sequence[Sequence[EditRequest]]]
"""For each name of an edit (e1, second, ...), the requests of every case; none for a case without it."""


@dataclass(frozen=True)
class Reached:
    """The cases of a block in one state. Cases that lack one of its edits are not in `tried`."""

    name: str
    delta: Deltas  # the state that later edits start from
    scored: Deltas  # the same, but for regularisers of the whole change
    tried: tuple[int, ...]
    steps: Mapping[int, int]
    losses: Mapping[int, float]
    reasons: Mapping[int, str | None]
    memory: Memory | None = None
    conditions: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """By case and module, the worst condition of the equations that its changes were solved from."""

    @property
    def sound(self) -> set[int]:
        """The cases whose edits all worked."""
        return {i for i in self.tried if self.reasons[i] is None}

    def telemetry(self, case_ids: Sequence[int]) -> Iterator[tuple]:
        """Yield TELEMETRY rows; a random change has no steps and no loss, and state 0 no row."""
        if self.name == UNEDITED:
            return
        norms = state_norm(self.scored).tolist()
        for i in self.tried:
            loss = self.losses.get(i)
            yield case_ids[i], self.name, self.steps.get(i, 0), loss, norms[i], self.reasons[i]


class Walk:
    """Takes blocks of cases through their states, one block after the other.

    Memory goes from an edit to those that start from its state. An editor whose edits come in order has one
    memory for all of them, which the walk keeps from block to block, unless cases are `apart`.
    """

    def __init__(
        self, editor: Editor, states: Sequence[State] = (), seed: int = 0, apart: bool = False
    ) -> None:
        self.editor, self.states, self.seed = editor, states, seed
        self._chained = editor.in_order and not apart
        self._chain: Memory | None = None

    def reach(self, requests: Requests, case_ids: Sequence[int]) -> Iterator[Reached]:
        """Yield the states of one block, in order."""
        reached: dict[str, Reached] = {}
        for state in self.states:
            if state.edit:
                start = reached[state.start] if state.start else None
                reached[state.name] = self.edit(state.name, requests[state.edit], start)
            else:
                reached[state.name] = self._random(state, reached[str(state.size_of)], case_ids)
            yield reached[state.name]

    def _random(self, state: State, like: Reached, case_ids: Sequence[int]) -> Reached:
        seeds = [derive(self.seed, "random change", case_id) for case_id in case_ids]
        change = random_like(like.scored, seeds)
        return Reached(state.name, change, change, like.tried, {}, {}, like.reasons)

    def edit(
        self, name: str, requests: Sequence[Sequence[EditRequest]], before: Reached | None = None
    ) -> Reached:
        """Return the state `name` of a block: cases with requests whose edits `before` worked are edited."""
        tried = [i for i, case in enumerate(requests) if case]
        reasons: dict[int, str | None] = dict.fromkeys(tried)
        if before:
            for i in tried:
                if (reason := before.reasons.get(i, "it was not asked for")) is not None:
                    reasons[i] = f"after a failed first edit: {reason}"
        able = [i for i in tried if reasons[i] is None]
        start = before.delta if before else EMPTY
        if not able:
            memory = before.memory if before else None
            return Reached(name, start, self.editor.scored(start), tuple(tried), {}, {}, reasons, memory)
        result, memory = self._written([requests[i] for i in able], start, before, able, len(requests))
        reasons.update(zip(able, result.reasons, strict=True))
        delta = start + scatter_cases(result.delta, able, len(requests))
        steps = dict(zip(able, result.steps, strict=True))
        losses = dict(zip(able, result.losses, strict=True))
        scored = self.editor.scored(delta)
        known = before.conditions if before else {}
        conditions = _worst(known, self._conditions(result.diagnostics, able))
        return Reached(name, delta, scored, tuple(tried), steps, losses, reasons, memory, conditions)

    def _conditions(
        self, diagnostics: Sequence[Mapping[str, Any]], able: Sequence[int]
    ) -> dict[int, dict[str, float]]:
        """Return the `condition` of layers in an edit's diagnostics, one for all cases or one for each."""
        found: dict[int, dict[str, float]] = {i: {} for i in able}
        for entry in diagnostics:
            if "condition" in entry and "layer" in entry:
                values = torch.as_tensor(entry["condition"], dtype=torch.float64).expand(len(able)).tolist()
                module = self.editor.lm.projection(entry["layer"])
                found = _worst(found, {i: {module: x} for i, x in zip(able, values, strict=True)})
        return found

    def _written(
        self,
        requests: Sequence[Sequence[EditRequest]],
        start: Deltas,
        before: Reached | None,
        able: Sequence[int],
        size: int,
    ) -> tuple[EditResult, Memory | None]:
        """Return the edit of the cases `able` out of `size`, and the block's memory after it."""
        if self._chained:
            result = self.editor.edit(requests, select(start, able), self._chain)
            self._chain = result.memory
            return result, None
        known = before.memory if before else None
        mine = known and {name: tensor[list(able)] for name, tensor in known.items()}
        result = self.editor.edit(requests, select(start, able), mine)
        return result, scatter_memory(result.memory, able, size)


def _worst(
    known: Mapping[int, Mapping[str, float]], more: Mapping[int, Mapping[str, float]]
) -> dict[int, dict[str, float]]:
    """Return the larger of both numbers of each case and module."""
    found = {i: dict(known.get(i, {})) for i in {*known, *more}}
    for i, values in more.items():
        for module, value in values.items():
            found[i][module] = max(value, found[i].get(module, value))
    return found


def scatter_memory(memory: Memory | None, able: Sequence[int], size: int) -> Memory | None:
    """Return the memory of `size` cases: that of the cases `able`, and zeros for the others."""
    found = {}
    for name, tensor in (memory or {}).items():
        found[name] = tensor.new_zeros(size, *tensor.shape[1:])
        found[name][list(able)] = tensor
    return found or None
