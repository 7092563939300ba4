"""Running a plan: one turn of edits after another, each from the state that those before it left.

Time and memory of a turn do not grow with the number of edits: their changes add up to one matrix for each
changed weight (`accumulate`), which is applied while the unedited model runs. So what an editor measures on
the unedited model is that at any time, and so is what a regulariser compares a change with.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from aftershock.editors.contract import Editor, EditResult, Memory
from aftershock.experiments.health import mean_nll, own_texts
from aftershock.experiments.lengths import check_lengths
from aftershock.experiments.sequences.log import WEIGHTS
from aftershock.experiments.sequences.plan import Plan, Turn
from aftershock.experiments.sequences.writing import LogWriter
from aftershock.lm.edits import EMPTY, State, join, state_norm
from aftershock.lm.edits.accumulate import accumulate
from aftershock.lm.edits.state import in_weights
from aftershock.lm.files.hashes import sha256_of, sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import Score, score
from aftershock.progress import Progress
from aftershock.prompts import join as join_texts
from aftershock.requests import EditRequest, Query
from aftershock.tables.sequences import SEQUENCE_EDITS

NOT_FINITE = "the weights are not finite after it"
NO_NUMBERS = "the model's outputs are no numbers after it"


@dataclass(frozen=True)
class SequenceEdit:
    """An edit of a sequence: its number in the source, and what is asked for."""

    edit_id: int
    request: EditRequest


def edits_in_order(edits: pd.DataFrame, plan: Plan, order: int) -> list[SequenceEdit]:
    """Return the kept edits of SEQUENCE_EDITS rows as an order of the plan makes them."""
    return plan.in_order(_kept(edits), order)


def load_edits(path: str | Path, *_: Any) -> list[EditRequest]:
    """Return the kept edits of a file of SEQUENCE_EDITS rows."""
    edits = SEQUENCE_EDITS.read(path)
    return [edit.request for edit in _kept(edits)]


def _kept(edits: pd.DataFrame) -> list[SequenceEdit]:
    rows = edits[edits["kept"]].sort_values("edit_id").itertuples(index=False)
    return [
        SequenceEdit(row.edit_id, EditRequest(row.prompt, row.subject, row.target_new, row.target_true))
        for row in rows
    ]


def identity_of(
    weights_sha256: str,
    plan: Plan,
    order: int,
    edits: Sequence[SequenceEdit],
    artifacts: Sequence[str | Path],
    made_by: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all that a log of edits depends on.

    edits: in their order. artifacts: the files that the editor reads. made_by: the editor, its settings and
    the code.
    """
    hashes = [
        sha256_of_weights(path) if Path(path).is_dir() else sha256_of(path) for path in map(Path, artifacts)
    ]
    made = hashlib.sha256(json.dumps([asdict(edit) for edit in edits]).encode()).hexdigest()
    turns = {"mode": plan.mode, "batch": plan.batch, "checkpoints": list(plan.edited)}
    found = {WEIGHTS: weights_sha256, "plan": turns, "order": order, "edits": made, "artifacts": hashes}
    return found | dict(made_by)


def run_sequence(
    editor: Editor,
    edits: Sequence[SequenceEdit],
    turns: Sequence[Turn],
    writer: LogWriter,
    every: int = 1,
    progress: Progress | None = None,
) -> None:
    """Make the turns that are not in the log yet, and write them.

    `every` is the number of turns from one look at the perplexity of a text to the next; 0 for none. It is
    also looked at where a checkpoint is reached. After every turn the weights have to be finite, and the
    edits' own prompts to have probabilities: else the sequence ends, and what was made so far is kept. A turn
    that fails otherwise changes nothing.
    """
    if writer.manifest.finished:
        return
    check_lengths(editor.lm, _texts(edits))
    watch, progress = Watch(editor.lm, every), progress or Progress()
    state, memory = writer.resume(editor.lm.device)
    progress.begin("Editing", len(turns), "turn", writer.turns)
    for turn in turns[writer.turns :]:
        if turn.is_fresh:
            state, memory = EMPTY, None
        asked = [edits[i - 1] for i in turn.positions]
        made = make_turn(editor, [edit.request for edit in asked], state, memory)
        state, memory = made.state, made.memory
        made, rows = watch.look(turn, asked, made)
        writer.add(turn, made.delta, rows)
        alone = turns[-1].is_fresh  # each turn makes a model of its own
        last = turn is turns[-1] or made.broken and not alone
        lost = [] if not made.broken else [turn] if alone else turns[turn.number - 1 :]
        told = f"{made.reason} (edit {turn.positions[-1]} of the sequence)"
        absent = {t.checkpoint: told for t in lost if t.checkpoint}
        if turn.checkpoint or last or writer.is_full:
            writer.close_chunk(state, editor.scored(state), memory, absent, last)
        progress.step(1)
        if last:
            break


@dataclass(frozen=True)
class MadeTurn:
    """The outcome of a turn."""

    state: State  # what the next one starts from
    memory: Memory | None
    delta: State  # what it changed; nothing where it failed
    steps: int
    loss: float
    norm: float  # of its change
    relative_norm: float | None
    condition: float | None
    seconds: float
    reason: str | None
    broken: bool  # the model would not be one any more


def make_turn(
    editor: Editor, requests: Sequence[EditRequest], state: State, memory: Memory | None
) -> MadeTurn:
    """Return the outcome of editing with all `requests` at once, starting from `state`, which is used up."""
    started = time.perf_counter()
    result = editor.edit([requests], state, memory)
    seconds = time.perf_counter() - started
    (reason,) = result.reasons
    norm, sizes = 0.0, None
    broken, delta = False, EMPTY
    if reason is None:
        norm, sizes = float(state_norm(result.delta)), _relative_norm(editor.lm, result.delta)
        largest = torch.finfo(editor.lm.dtype).max
        if not norm + total_norm(state) < largest:  # nor where it is NaN
            reason, broken, norm, sizes = NOT_FINITE, True, math.inf, None
    if reason is None:
        delta = result.delta
        state = accumulate(state, delta)
    if not broken and result.memory is not None:  # laid out as a resumed sequence reads it
        memory = {name: tensor.contiguous() for name, tensor in result.memory.items()}
    return MadeTurn(
        state,
        memory,
        delta,
        result.steps[0],
        result.losses[0],
        norm,
        sizes,
        _condition(result),
        seconds,
        reason,
        broken,
    )


class Watch:
    """Looks at the model right after each turn: at the edits of the turn, and at a text of its own."""

    def __init__(self, lm: LanguageModel, every: int) -> None:
        self.lm, self.every = lm, every
        self._text = [Query(prompt, rest) for prompt, rest in own_texts(lm)] if every else []
        self._unedited = mean_nll(score(lm, self._text)) if self._text else None

    def look(
        self, turn: Turn, edits: Sequence[SequenceEdit], made: MadeTurn
    ) -> tuple[MadeTurn, list[dict[str, Any]]]:
        """Return a turn, which is broken where outputs are no numbers, and its SEQUENCE_TELEMETRY rows."""
        looks = bool(self._text) and (turn.checkpoint is not None or turn.number % self.every == 0)
        queries = [Query(edit.request.text, edit.request.target_new) for edit in edits]
        found = score(self.lm, queries + (self._text if looks else []), made.state)
        if not made.broken and any(math.isnan(s.logprob) for s in found):
            made = replace(made, broken=True, reason=NO_NUMBERS)
        of_turn = {
            "turn": turn.number,
            "steps": made.steps,
            "loss": made.loss,
            "norm": made.norm,
            "relative_norm": made.relative_norm,
            "total_norm": total_norm(made.state),
            "condition": made.condition,
            "seconds": made.seconds,
            "nll": mean_nll(found[len(edits) :]) if looks else None,
            "unedited_nll": self._unedited,
            "reason": made.reason,
        }
        rows = [
            {
                "position": position,
                "edit_id": edit.edit_id,
                "success": s.argmax_match and not made.broken,
                "logprob": logprob_of(s),
                **of_turn,
            }
            for position, edit, s in zip(turn.positions, edits, found, strict=False)
        ]
        return made, rows


def logprob_of(found: Score) -> float:
    """Return a target's log-probability; -inf where a broken model puts out no number."""
    return -math.inf if math.isnan(found.logprob) else found.logprob


def total_norm(state: State) -> float:
    """Return the Frobenius norm of a state that `accumulate` made; no copy of its matrices is."""
    squares = [
        float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
        for delta in state
        if in_weights(delta)
        for tensor in delta.tensors().values()
    ]
    others = [float(delta.squared_norm()) for delta in state if not in_weights(delta)]
    return math.sqrt(math.fsum([*squares, *others]))


def _relative_norm(lm: LanguageModel, delta: State) -> float | None:
    """Return the largest change of a weight in norms of the weight; None where no weight changes."""
    sizes = [
        float(change.squared_norm().sqrt() / _norm(lm.model.get_submodule(change.module).weight))
        for change in join(delta)
        if in_weights(change)
    ]
    return max(sizes, default=None)


def _norm(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight, dtype=torch.float64).cpu()


def _condition(result: EditResult) -> float | None:
    """Return the worst condition of the equations that an edit solved; None where it solved none."""
    found = [
        float(torch.as_tensor(entry["condition"], dtype=torch.float64).max())
        for entry in result.diagnostics
        if isinstance(entry, Mapping) and "condition" in entry
    ]
    return max(found, default=None)


def _texts(edits: Sequence[SequenceEdit]) -> Iterator[tuple[str, str]]:
    for edit in edits:
        text = join_texts(edit.request.text, edit.request.target_new)
        yield f"{edit.request.subject} with {edit.request.target_new} in edit {edit.edit_id}", text
