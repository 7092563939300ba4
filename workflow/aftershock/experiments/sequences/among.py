"""Cases among unrelated edits: so many edits of a plan before, between or after the two of a case.

    place     state 0              state 1                   state 2
    before    n edits              n edits, e1               n edits, e1, e2
    between   the unedited model   e1, n edits               e1, n edits, e2
    after     the unedited model   e1                        e1, e2, n edits

So state 0 is the model right before a case's first edit, state 1 right before its second one, and state 2 at
the end. `before` starts from the sequence's log. Edits that come after those of a case are made anew in each
case, since they start from what it did; a case's own edits are in no log.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import pandas as pd
import torch

from aftershock.datasets.table import AFTER, BEFORE, BETWEEN, FIRST, SECOND, UNEDITED
from aftershock.editors.contract import Editor, Memory
from aftershock.experiments.cases import block_within, blocks, observe
from aftershock.experiments.lengths import check_lengths, edit_texts, prompt_texts
from aftershock.experiments.queries import list_prompts, requests_of
from aftershock.experiments.sequences.log import EditLog
from aftershock.experiments.sequences.run import NOT_FINITE
from aftershock.experiments.states import Reached, Walk, scatter_memory
from aftershock.lm.edits import EMPTY, State, scatter_cases, select, state_norm
from aftershock.lm.edits.accumulate import accumulate
from aftershock.progress import Progress
from aftershock.requests import EditRequest
from aftershock.tables.sequences import AMONG_OBSERVATIONS, AMONG_TELEMETRY

HELD = 4
"""States of a case that are in memory at a time: as it is, after its second edit, and copies."""

Requests = Sequence[Sequence[EditRequest]]


@dataclass(frozen=True)
class Unrelated:
    """Edits of a plan around the two of a case: their place, and how many there are in turn.

    log: of the sequence, for edits before. turns: for others, the edits of each turn in their order.
    """

    place: str
    numbers: Sequence[int]
    log: EditLog | None = None
    turns: Sequence[Sequence[EditRequest]] = field(default=())

    def until(self, n: int, before: int) -> Iterator[Sequence[EditRequest]]:
        """Yield the turns that lead from `before` edits to `n`."""
        made = 0
        for turn in self.turns:
            if before <= made < n:
                yield turn
            made += len(turn)


def run_among(
    editor: Editor,
    edits: pd.DataFrame,
    probes: pd.DataFrame,
    prompts: pd.DataFrame,
    unrelated: Unrelated,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return AMONG_OBSERVATIONS and AMONG_TELEMETRY of all cases in `edits` (EDITS rows).

    State 0 is scored where edits come before a case; elsewhere it is the unedited model. A checkpoint that
    the sequence did not reach has no rows, and a case none from where its weights would not be finite.
    """
    queried = list_prompts(probes, prompts)
    check_lengths(editor.lm, chain(edit_texts(edits), prompt_texts(queried, probes)))
    all_ids, progress = sorted(edits["case_id"].unique().tolist()), progress or Progress()
    progress.begin("Editing", len(all_ids), "case")
    observations: list[tuple] = []
    telemetry: list[tuple] = []
    for case_ids in blocks(all_ids, _block_size(editor)):
        block = edits[edits["case_id"].isin(case_ids)]
        first, second = (requests_of(block, name, case_ids) for name in ("e1", "e2"))
        for n, reached in _STATES[unrelated.place](editor, first, second, unrelated):
            seen, told = observe(editor.lm, reached, case_ids, queried)
            observations += [(n, *row) for row in seen]
            telemetry += [(n, *row) for row in told]
        progress.step(len(case_ids))
    return (
        pd.DataFrame(observations, columns=list(AMONG_OBSERVATIONS.columns)),
        pd.DataFrame(telemetry, columns=list(AMONG_TELEMETRY.columns)),
    )


def _block_size(editor: Editor) -> int:
    """Return the cases whose accumulated changes fit memory; one where an edit depends on earlier ones."""
    if editor.in_order:
        return 1
    exact = max(editor.lm.dtype.itemsize, torch.float32.itemsize)
    numbers = sum(editor.lm.weight(module).numel() for module in editor.changed_modules)
    return block_within(editor, HELD * exact * numbers)


def _before(
    editor: Editor, first: Requests, second: Requests, unrelated: Unrelated
) -> Iterator[tuple[int, list[Reached]]]:
    assert unrelated.log is not None
    walk, size = Walk(editor, apart=True), len(first)
    for n in unrelated.log.reached(unrelated.numbers):
        state, memory = unrelated.log.state(n, editor.lm.device), unrelated.log.memory(n, editor.lm.device)
        base = _start(editor, size, select(state, [0] * size), memory)
        e1 = walk.edit(FIRST, first, base)
        yield n, [base, e1, walk.edit(SECOND, second, e1)]


def _between(
    editor: Editor, first: Requests, second: Requests, unrelated: Unrelated
) -> Iterator[tuple[int, list[Reached]]]:
    walk = Walk(editor, apart=True)
    for n, e1 in _followed(editor, walk.edit(FIRST, first), unrelated):
        yield n, [e1, walk.edit(SECOND, second, e1)]


def _after(
    editor: Editor, first: Requests, second: Requests, unrelated: Unrelated
) -> Iterator[tuple[int, list[Reached]]]:
    walk = Walk(editor, apart=True)
    e1 = walk.edit(FIRST, first)
    for n, last in _followed(editor, walk.edit(SECOND, second, e1), unrelated):
        yield n, [e1, last]


_STATES = {BEFORE: _before, BETWEEN: _between, AFTER: _after}


def _start(editor: Editor, size: int, state: State, memory: Memory | None) -> Reached:
    """Return the state that all cases of a block start from."""
    kept = memory and {name: tensor[[0] * size] for name, tensor in memory.items()}
    none: Mapping[int, str | None] = dict.fromkeys(range(size))
    return Reached(UNEDITED, state, editor.scored(state), tuple(range(size)), {}, {}, none, kept)


def _followed(editor: Editor, reached: Reached, unrelated: Unrelated) -> Iterator[tuple[int, Reached]]:
    """Yield `reached` with more and more unrelated edits behind it, one number after another.

    What was yielded is changed in place as soon as the next one is asked for.
    """
    size, reasons = len(reached.reasons), dict(reached.reasons)
    able = sorted(reached.sound)
    state, memory = accumulate(EMPTY, select(reached.delta, able)), _rows(reached.memory, able)
    before = 0
    for n in sorted(unrelated.numbers):
        for requests in unrelated.until(n, before):
            if not able:
                break
            result = editor.edit([requests] * len(able), state, memory)
            delta, memory = result.delta, result.memory
            kept = _finite(editor, state, delta)
            if len(kept) < len(able):
                reasons |= {case: NOT_FINITE for i, case in enumerate(able) if i not in kept}
                able = [able[i] for i in kept]
                if not able:
                    break
                state, delta, memory = select(state, kept), select(delta, kept), _rows(memory, kept)
            state = accumulate(state, delta)
        before = n
        spread = scatter_cases(state, able, size) if able else reached.delta
        whole = scatter_memory(memory, able, size) if able else None
        yield (
            n,
            replace(reached, delta=spread, scored=editor.scored(spread), reasons=dict(reasons), memory=whole),
        )


def _finite(editor: Editor, state: State, delta: State) -> list[int]:
    """Return the cases whose weights are finite after `delta`."""
    size = state_norm(state) + state_norm(delta)
    return [i for i, norm in enumerate(size.tolist()) if norm < torch.finfo(editor.lm.dtype).max]


def _rows(memory: Memory | None, cases: Sequence[int]) -> Memory | None:
    """Return the memory of some of the cases."""
    return memory and {name: tensor[list(cases)] for name, tensor in memory.items()}
