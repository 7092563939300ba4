"""An editor whose changes pass through regularisers, whatever its method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aftershock.editors.contract import Editor, EditResult, Memory
from aftershock.editors.importing import load_object
from aftershock.editors.regularise import Weight
from aftershock.editors.regularisers import (
    REGULARISERS,
    Entry,
    copies_state,
    makes_dense,
    settings_of_entry,
)
from aftershock.lm.edits import EMPTY, Delta, State, join
from aftershock.lm.edits.state import in_weights
from aftershock.lm.edits.weights import WeightDelta
from aftershock.requests import EditRequest


@dataclass(frozen=True)
class _Step:
    """One regulariser with its function and settings."""

    apply: Callable[[WeightDelta, Weight, Any], WeightDelta]
    settings: Any
    when: str
    """post, in_loop, or scored."""


class Regularised(Editor):
    """An editor of any method that changes weights, with regularisers in their order."""

    def __init__(self, editor: Editor, entries: Sequence[Entry]) -> None:
        """Take the method's editor, whose `after_layer` is replaced, and `entries`."""
        self.lm, self.settings, self.seed = editor.lm, editor.settings, editor.seed
        self.contexts, self.artifacts = editor.contexts, editor.artifacts
        self.editor, self.entries = editor, list(entries)
        self._steps = [_step(entry) for entry in entries]
        self._weights: dict[str, Weight] = {}
        if any(step.when == "in_loop" for step in self._steps):
            editor.after_layer = self._after_layer  # type: ignore[method-assign]

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return the method's edit with regularised deltas; memory and diagnostics are the method's own."""
        result = self.editor.edit(cases, state, memory)
        if not any(step.when == "post" for step in self._steps):
            return result
        before = _by_module(state)
        delta = tuple(self._through("post", change, before) for change in join(result.delta))
        return replace(result, delta=delta)

    def scored(self, state: State) -> State:
        """Return `state` with regularisers of the whole change applied to a copy."""
        if not copies_state(self.entries):
            return state
        return tuple(self._through("scored", change, {}) for change in join(state))

    @property
    def case_bytes(self) -> int:
        """Bytes of one case's delta, and of the copy that is scored."""
        size = self.editor.case_bytes
        if makes_dense(self.entries):
            weights = sum(self.lm.weight(module).numel() for module in self.changed_modules)
            size = max(size, weights * self.lm.dtype.itemsize)
        return 2 * size if copies_state(self.entries) else size

    @property
    def changed_modules(self) -> tuple[str, ...]:
        """The modules that the method changes."""
        return self.editor.changed_modules

    @property
    def in_order(self) -> bool:
        """True if the method's edits depend on earlier ones."""
        return self.editor.in_order

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """The values that `auto` settings of the method take."""
        return self.editor.measured

    def _after_layer(self, delta: Delta, state: State) -> Delta:
        """Return a layer's regularised change; `state` is the one that it was computed in."""
        return self._through("in_loop", delta, _by_module(state))

    def _through(self, when: str, delta: Delta, before: dict[str, WeightDelta]) -> WeightDelta:
        """Return `delta` after all regularisers of time `when`; `before` has earlier changes by module."""
        if not in_weights(delta):
            raise ValueError(
                f"regularisers act on changes of weights, but {delta.name} is none; leave them out for "
                "this method"
            )
        if len(delta.shape) < 2:  # of a norm
            return delta
        weight = replace(self._weight(delta.module), before=before.get(delta.module))
        for step in self._steps:
            if step.when == when:
                delta = step.apply(delta, weight, step.settings)
        return delta

    def _weight(self, module: str) -> Weight:
        if module not in self._weights:
            transposed = self.lm.family.transposed
            self._weights[module] = Weight(self.lm.weight(module), transposed=transposed)
        return self._weights[module]


def _step(entry: Entry) -> _Step:
    name, settings = settings_of_entry(entry)
    known = REGULARISERS[name]
    return _Step(load_object(known.apply), settings, "scored" if known.whole else settings.order)


def _by_module(state: State) -> dict[str, WeightDelta]:
    """Return the whole change of each module in `state`."""
    return {delta.module: delta for delta in join(state) if in_weights(delta)}
