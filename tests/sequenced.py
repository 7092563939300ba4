"""Small sequences of edits, run and logged."""

from pathlib import Path

import torch

from aftershock.editors.contract import Editor, EditResult
from aftershock.experiments.sequences.log import EditLog
from aftershock.experiments.sequences.plan import SEQUENTIAL, Plan
from aftershock.experiments.sequences.run import SequenceEdit, run_sequence
from aftershock.experiments.sequences.writing import LogWriter, writing
from aftershock.lm.edits import EMPTY, LowRank, State
from editing import identical
from tiny import low_rank, requests

IDENTITY = {"weights_sha256": "of the weights", "method": "rome"}


class Faulty(Editor):
    """Writes one value per edit; the edits in `faults` fail, or change weights to what they are mapped to."""

    def __init__(self, lm, faults):
        self.lm, self.settings, self.faults, self.calls = lm, None, faults, 0

    def edit(self, cases, state=(), memory=None):
        self.calls += 1
        seen = 0 if memory is None else int(memory["seen"])
        fault = self.faults.get(self.calls)
        delta = low_rank(self.lm, 0, 1, seed=self.calls)
        if isinstance(fault, float):
            delta = LowRank(delta.module, delta.U, delta.V * fault)
        reason = fault if isinstance(fault, str) else None
        known = {"seen": torch.tensor([seen + (reason is None)])}
        return EditResult((delta,), (1,), (0.5,), (reason,), known)


def plan(*checkpoints: int, batch: int | None = 1, mode: str = SEQUENTIAL) -> Plan:
    """A plan of one order."""
    return Plan(mode, batch, checkpoints)


def edits(n: int) -> list[SequenceEdit]:
    """Edits of different subjects as far as there are any, numbered from 100."""
    return [SequenceEdit(100 + i, request) for i, request in enumerate(requests(n))]


def run(editor: Editor, made: Plan, folder: Path, identity=IDENTITY, every: int = 0) -> EditLog:
    """The log of a plan."""
    with writing(folder, identity, {}) as writer:
        run_sequence(editor, edits(made.edits), made.turns, writer, every)
    return opened(folder)


def opened(folder: Path) -> EditLog:
    """The log in a folder."""
    return EditLog.open(folder, IDENTITY["weights_sha256"])


def plain(editor: Editor, made: Plan) -> list[State]:
    """The states after each turn as the contract of editors has them: all deltas side by side."""
    states, state, memory = [], EMPTY, None
    for turn in made.turns:
        if turn.is_fresh:
            state, memory = EMPTY, None
        asked = [edits(made.edits)[i - 1].request for i in turn.positions]
        result = editor.edit([asked], state, memory)
        if result.reasons[0] is None:
            state += result.delta
        memory = result.memory
        states.append(state)
    return states


def copied(state: State) -> State:
    """A state with tensors of its own."""
    return tuple(delta._map(torch.clone) for delta in state)


def interrupted(writer: LogWriter, after: int) -> LogWriter:
    """The same writer, which raises KeyboardInterrupt when it is given the turn after `after` turns."""
    add, taken = writer.add, []

    def stop(*given) -> None:
        if len(taken) == after:
            raise KeyboardInterrupt
        taken.append(given)
        add(*given)

    writer.add = stop
    return writer


def same(log: EditLog, other: EditLog) -> bool:
    """True if two logs of five edits lead to bit-equal states after each of them."""
    return all(identical(log.state(number), other.state(number)) for number in range(6))
