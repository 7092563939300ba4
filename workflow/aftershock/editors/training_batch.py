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
    end: int
    """The last token of the prompt."""
    first: int = 0
    """The position of the first token."""
    seen: int | None = None
    """Number of tokens that attention looks at; None for all."""

    @classmethod
    def in_turn(cls, pair: Pair, first: int = 0) -> "Example":
        """Predict every target token at its own position, all of one weight."""
        ids, end = (*pair.prompt, *pair.target), len(pair.prompt) - 1
        return cls(ids[:-1], *_last(ids, len(pair.target)), end, first)

    @classmethod
    def at_once(cls, pair: Pair, tokens: Sequence[int], shares: Sequence[float]) -> "Example":
        """Predict all target tokens at the prompt's last position."""
        end = len(pair.prompt) - 1
        return cls(pair.prompt, (end,), (0,) * len(tokens), tuple(tokens), tuple(map(float, shares)), end)

    @classmethod
    def padded(cls, pair: Pair, width: int, pad_id: int) -> "Example":
        """Predict as many tokens as the target has, but the last ones of the padded text."""
        own = (*pair.prompt, *pair.target)
        ids = own + (pad_id,) * (width - len(own))
        return cls(ids[:-1], *_last(ids, len(pair.target)), len(pair.prompt) - 1, seen=len(own))


def _last(
    ids: Sequence[int], size: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """Positions that predict the last `size` of some tokens, in their order, and these, all of one weight."""
    last = range(len(ids) - size, len(ids))
    return tuple(i - 1 for i in last), tuple(range(size)), tuple(ids[i] for i in last), (1.0 / size,) * size


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
    ends: Tensor  # (rows,) last tokens of prompts
    seen: Tensor | None = None  # (rows,) tokens that attention looks at, where these are not all
    positions: Tensor | None = None  # (rows, seq), where a text does not begin at position 0
    stream: Tensor | None = None  # (rows, seq, d), after the entry's layer before training
    keys: Tensor | None = None  # (rows, seq, d_in), what the entry's trained matrix reads
    written: Tensor | None = None  # (rows, seq, d), its MLP's output where a norm follows

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a pass beside ids and mask."""
        return {} if self.positions is None else {"position_ids": self.positions}

    def attention(self, lm: LanguageModel) -> Tensor | dict[str, Tensor]:
        """The mask of a pass."""
        if self.seen is None:
            return self.mask
        places = torch.arange(self.ids.shape[1], device=self.ids.device).expand(len(self.ids), -1)
        allowed = (places[0][:, None] >= places[0]) & (places < self.seen[:, None])[:, None]
        return lm.attention(allowed, places, places)

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
        return Batch(self.ids, self.cases if cases is None else cases, self.ends)


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
    ends = torch.tensor([e.end for e in examples])
    rest = (tensor.to(lm.device) for tensor in (owner, slots, tokens, shares, read, valid, ends))
    batch = TrainingBatch(ids, mask, *rest)
    if any(e.first for e in examples):
        first = torch.tensor([[e.first] for e in examples], device=lm.device)
        batch = replace(batch, positions=first + torch.arange(ids.shape[1], device=lm.device))
    if any(e.seen is not None for e in examples):
        seen = torch.tensor([len(e.ids) if e.seen is None else e.seen for e in examples], device=lm.device)
        batch = replace(batch, seen=seen)
        if lm.family.shown_positions:
            places = torch.arange(ids.shape[1], device=lm.device).expand(len(ids), -1)
            batch = replace(batch, positions=places.masked_fill(places >= seen[:, None], -1))
    return batch


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
            lm.run(some.ids, some.attention(lm), use_cache=False, **some.options)
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
