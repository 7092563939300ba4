"""Requests for fine-tuning: rows of tokens, positions that predict targets, and the layers below.

Everything that training does not change is computed once: the hidden states below the lowest trained matrix,
and, where of that layer only the MLP's last matrix is trained, what this matrix reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aftershock.lm.edits import Batch, State, apply_deltas, select
from aftershock.lm.hooks import batches, record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import Pair

READ_TOKENS = 4096  # that are read together before training


class Example(NamedTuple):
    """A request as a training example: its tokens, target tokens and their positions."""

    ids: tuple[int, ...]
    read: tuple[int, ...]
    """Positions that predict something."""
    slots: tuple[int, ...]
    """For each target token, which of `read` predicts it."""
    tokens: tuple[int, ...]
    shares: tuple[float, ...]
    """The weight of each target token in the request's loss."""

    @classmethod
    def in_turn(cls, pair: Pair) -> "Example":
        """Predict every target token at its own position, all of one weight."""
        size, start = len(pair.target), len(pair.prompt) - 1
        places = tuple(range(size))
        read = tuple(start + i for i in places)
        return cls((*pair.prompt, *pair.target[:-1]), read, places, pair.target, (1.0 / size,) * size)

    @classmethod
    def at_once(cls, pair: Pair, tokens: Sequence[int], shares: Sequence[float]) -> "Example":
        """Predict all target tokens at the prompt's last position."""
        return cls(
            pair.prompt, (len(pair.prompt) - 1,), (0,) * len(tokens), tuple(tokens), tuple(map(float, shares))
        )


@dataclass(frozen=True)
class Entry:
    """The point above which passes depend on training: after layer `after`, or at its last matrix."""

    after: int
    projection: bool

    @classmethod
    def below(cls, lm: LanguageModel, modules: Sequence[str]) -> "Entry":
        """The highest entry below the trained `modules`."""
        first = min(map(lm.layer_of, modules))
        only = {module for module in modules if lm.layer_of(module) == first} == {lm.projection(first)}
        return cls(first, True) if only else cls(first - 1, False)


@dataclass(frozen=True)
class TrainingBatch:
    """Requests of several cases, sorted by case, and the positions that predict their target tokens."""

    ids: Tensor  # (rows, seq)
    mask: Tensor  # (rows, seq)
    cases: Tensor  # (rows,)
    slots: Tensor  # (rows, targets): which of `read` predicts each target token
    tokens: Tensor  # (rows, targets)
    shares: Tensor  # (rows, targets): the weight of each token in its row's loss, 0 where padded
    read: Tensor  # (rows, k) positions that predict something
    valid: Tensor  # (rows, k), 0 where padded
    positions: Tensor | None = None  # (rows, seq), where a text does not begin at position 0
    stream: Tensor | None = None  # (rows, seq, d), after the entry's layer before training
    keys: Tensor | None = None  # (rows, seq, d_in), what the entry's trained matrix reads
    written: Tensor | None = None  # (rows, seq, d), its MLP's output where a norm follows

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a pass beside ids and mask."""
        return {} if self.positions is None else {"position_ids": self.positions}

    def rows(self, chosen: Tensor, cases: Tensor) -> "TrainingBatch":
        """Some rows, as those of `cases`, no wider than they need."""
        width = int(self.mask[chosen].sum(dim=1).max())
        per_token = ("ids", "mask", "positions", "stream", "keys", "written")
        found = {
            name: tensor[chosen][:, :width] if name in per_token else tensor[chosen]
            for name, tensor in vars(self).items()
            if tensor is not None
        }
        return replace(self, **(found | {"cases": cases}))

    def running(self, cases: Tensor | None = None) -> Batch:
        """The rows as a Batch for deltas."""
        return Batch(self.ids, self.cases if cases is None else cases, self.read[:, 0])


def encode_examples(lm: LanguageModel, cases: Sequence[Sequence[Example]]) -> TrainingBatch:
    """Return the requests of every case as one batch that has not been read yet."""
    examples = [example for case in cases for example in case]
    ids, mask = lm.pad([example.ids for example in examples])
    owner = torch.arange(len(cases)).repeat_interleave(torch.tensor([len(case) for case in cases]))
    most, k = max(len(e.tokens) for e in examples), max(len(e.read) for e in examples)
    slots, tokens = (torch.zeros(len(examples), most, dtype=torch.long) for _ in range(2))
    read = torch.zeros(len(examples), k, dtype=torch.long)
    shares = torch.zeros(len(examples), most, dtype=lm.dtype)
    valid = torch.zeros(len(examples), k, dtype=lm.dtype)
    for i, e in enumerate(examples):
        read[i, : len(e.read)], valid[i, : len(e.read)] = torch.tensor(e.read), 1.0
        size = len(e.tokens)
        slots[i, :size], tokens[i, :size] = torch.tensor(e.slots), torch.tensor(e.tokens)
        shares[i, :size] = torch.tensor(e.shares)
    rest = (tensor.to(lm.device) for tensor in (owner, slots, tokens, shares, read, valid))
    return TrainingBatch(ids, mask, *rest)


@torch.no_grad()
def read_below(lm: LanguageModel, batch: TrainingBatch, entry: Entry, state: State) -> TrainingBatch:
    """Return the batch with the activations of `state` below the trained matrices."""
    if entry.after < 0:
        return batch
    stream, mlp, projection = lm.layer(entry.after), lm.mlp(entry.after), lm.projection(entry.after)
    inputs, outputs = ([projection], [mlp]) if entry.projection else ([], [])
    lengths = batch.mask.sum(dim=1).tolist()
    found: dict[str, list[Tensor]] = {"stream": [], "keys": [], "written": []}
    for part in batches(lengths, READ_TOKENS):
        some = batch.rows(
            torch.arange(part.start, part.stop, device=lm.device), batch.cases[part.start : part.stop]
        )
        with (
            apply_deltas(lm, state, some.running()),
            record_activations(lm, inputs, outputs, stream) as seen,
        ):
            lm.run(some.ids, some.mask, use_cache=False, **some.options)
        found["stream"].append(_wide(seen["out", stream], batch))
        if entry.projection:
            found["keys"].append(_wide(seen["in", projection], batch))
            if lm.family.changes_output:
                found["written"].append(_wide(seen["out", mlp], batch))
    return replace(batch, **{name: torch.cat(parts) for name, parts in found.items() if parts})


def _wide(tensor: Tensor, batch: TrainingBatch) -> Tensor:
    """`tensor` (rows, columns, d) with as many columns as the batch."""
    return torch.nn.functional.pad(tensor, (0, 0, 0, batch.ids.shape[1] - tensor.shape[1]))


def of_cases(state: State, chosen: Tensor, n: int) -> State:
    """The state of the `chosen` cases out of `n`, itself where these are all."""
    return state if len(chosen) == n else select(state, chosen.tolist())
