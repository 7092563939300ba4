"""FT's batches: what requests are trained on, and where their target tokens are read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from aftershock.editors.ft import FtSettings
from aftershock.lm.edits import Batch, State, apply_deltas
from aftershock.lm.hooks import record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.tokens import encode_pairs
from aftershock.prompts import following
from aftershock.requests import EditRequest


@dataclass(frozen=True)
class TrainingBatch:
    """Some requests of every case, sorted by case, and where their target tokens are read."""

    ids: Tensor  # (rows, seq)
    mask: Tensor  # (rows, seq)
    stream: Tensor  # (rows, seq, d), after the first trained layer before training
    keys: Tensor  # (rows, seq, d_in), what that layer's projection reads: training changes nothing before it
    written: Tensor | None  # (rows, seq, d), what its MLP puts out where a norm follows
    cases: Tensor  # (rows,)
    slots: Tensor  # (rows, targets): which of `read` predicts each target token
    tokens: Tensor  # (rows, targets)
    shares: Tensor  # (rows, targets): 1 / the row's number of trained tokens, 0 at the others
    read: Tensor  # (rows, k) positions that predict something
    valid: Tensor  # (rows, k), 0 where padded
    requests: Tensor  # rows of each case, (n,)


@torch.no_grad()
def read_batch(
    lm: LanguageModel, cases: Sequence[Sequence[EditRequest]], settings: FtSettings, state: State
) -> TrainingBatch:
    """Some requests of each case, with the activations from `state` below the first trained matrix."""
    requests = [request for case in cases for request in case]
    pairs = encode_pairs(lm, [(request.text, request.target_new) for request in requests])
    each = settings.objective == "target_new"
    if not each and lm.target_ids == "released":
        targets = [target for case in cases for target in released_targets(lm, case)]
    else:
        targets = [Target(pair.target, (1.0 / len(pair.target),) * len(pair.target)) for pair in pairs]
    shape = (len(requests), max(len(target.tokens) for target in targets))
    slots, tokens = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    read = torch.zeros((shape[0], shape[1] if each else 1), dtype=torch.long)
    shares = torch.zeros(shape, dtype=lm.dtype)
    valid = torch.zeros(read.shape, dtype=lm.dtype)
    for i, (pair, target) in enumerate(zip(pairs, targets, strict=True)):
        size = len(target.tokens)
        places = torch.arange(size if each else 1)
        read[i, : len(places)], valid[i, : len(places)] = len(pair.prompt) - 1 + places, 1.0
        slots[i, :size] = places
        tokens[i, :size], shares[i, :size] = torch.tensor(target.tokens), torch.tensor(target.shares)
    rows = [[*pair.prompt, *(pair.target[:-1] if each else ())] for pair in pairs]
    ids, mask = lm.pad(rows)
    sizes = torch.tensor([len(case) for case in cases])
    owner = torch.arange(len(cases)).repeat_interleave(sizes).to(lm.device)
    first = min(settings.layers)
    stream, mlp, projection = lm.layer(first), lm.mlp(first), lm.projection(first)
    running = Batch(ids, owner, read[:, 0].to(lm.device))
    with apply_deltas(lm, state, running), record_activations(lm, [projection], [mlp], stream) as seen:
        lm.run(ids, mask, use_cache=False)
    written = seen["out", mlp] if lm.family.changes_output else None
    before, keys = seen["out", stream], seen["in", projection]
    slots, tokens, shares, read, valid = (
        tensor.to(lm.device) for tensor in (slots, tokens, shares, read, valid)
    )
    return TrainingBatch(ids, mask, before, keys, written, owner, slots, tokens, shares, read, valid, sizes)


class Target(NamedTuple):
    """The tokens that a request is trained on, and the share of each in its loss."""

    tokens: tuple[int, ...]
    shares: tuple[float, ...]


def released_targets(lm: LanguageModel, case: Sequence[EditRequest]) -> list[Target]:
    """The targets of requests that are trained on together, as the released code tokenises and masks them.

    Counted is whatever is not the token for what is unknown: all, padding included, if there is none.
    """
    if not case:
        return []
    rows = lm.tokenize([following(request.prompt, request.target_new) for request in case])["input_ids"]
    width, unknown = max(map(len, rows)), lm.tokenizer.unk_token_id
    found = []
    for row in rows:
        tokens = (*row, *[lm.pad_id] * (width - len(row)))
        counted = [token != unknown for token in tokens]
        total = sum(counted)
        found.append(Target(tokens, tuple(c / total if total else math.nan for c in counted)))
    return found
