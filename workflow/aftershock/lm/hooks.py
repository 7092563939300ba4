"""Recording, replacing and skipping of parts of a forward pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils.checkpoint import checkpoint

from aftershock.lm.edits import EMPTY, Batch, State, apply_deltas, merge_many, per_token
from aftershock.lm.model import Hook, LanguageModel
from aftershock.lm.texts.tokens import Located

BATCH_TOKENS = 4096


class _Enough(Exception):
    """Raised inside a forward pass once everything to record has been seen."""


@contextmanager
def record_activations(
    lm: LanguageModel, inputs: Sequence[str] = (), outputs: Sequence[str] = (), stop: str | None = None
) -> Iterator[dict[tuple[str, str], Tensor]]:
    """Yield a dict that a forward pass inside fills: ("in" or "out", module) -> tensor.

    Enter it inside `apply_deltas`, so that outputs include the edits. The pass ends after module `stop`, if
    given: then its own result is never there, and the block ends with it.
    """
    seen: dict[tuple[str, str], Tensor] = {}

    def taker(name: str) -> Hook:
        def hook(module: Module, args: tuple[Any, ...], output: Any) -> Any:
            if args:  # attentions are given theirs by name
                seen["in", name] = args[0].to(lm.device)
            seen["out", name] = (output[0] if isinstance(output, tuple) else output).to(lm.device)
            if name == stop:
                raise _Enough

        return hook

    names = dict.fromkeys([*inputs, *outputs, *([stop] if stop else [])])
    handles = [lm.model.get_submodule(name).register_forward_hook(taker(name)) for name in names]
    try:
        yield seen
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def start_after_layer(lm: LanguageModel, after: int, hidden: Tensor | None) -> Iterator[None]:
    """Context manager: passes compute only the layers above `after`, from `hidden` (batch, seq, d).

    Nothing is skipped with `after` = -1.
    """
    layers = [lm.model.get_submodule(lm.layer(number)) for number in range(after + 1)]
    result = (hidden, None) if lm.family.tuples else hidden
    for layer in layers:
        layer.forward = lambda *args, **kwargs: result
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def with_added(
    lm: LanguageModel, layer: int, stream: Tensor, written: Tensor | None, added: Tensor
) -> Tensor:
    """The `stream` after a layer if its MLP's output had `added` more; all (..., d).

    `written` is the MLP's output where it is changed before it joins the stream, and None where
    `added` joins as it is.
    """
    if written is None:
        return stream + added
    before, after = (lm.joined(layer, output) for output in (written, written + added))
    return stream - before + after


@contextmanager
def add_to_outputs(lm: LanguageModel, added: Mapping[str, Tensor]) -> Iterator[None]:
    """Context manager: adds vectors (batch, d) to modules' outputs at the first token of every row."""

    def adder(vectors: Tensor) -> Hook:
        def hook(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            first = output[:, :1] + vectors[:, None].to(output.device)
            return torch.cat([first, output[:, 1:]], dim=1)

        return hook

    modules = {name: lm.model.get_submodule(name) for name in added}
    handles = [module.register_forward_hook(adder(added[name])) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def last_mlp_at(lm: LanguageModel, positions: Tensor, valid: Tensor, state: State = EMPTY) -> Iterator[None]:
    """Context manager: computes the last layer's MLP at `positions` (batch, k) only, and 0 elsewhere.

    No later layer looks at the other positions, so that the hidden states at `positions` are those of a whole
    pass. `valid` (batch, k) is false where a row of `positions` is padded. With a delta in `state` that may
    decide at another token, all of the MLP is computed.
    """
    if not per_token(state):
        yield
        return
    mlp = lm.model.get_submodule(lm.mlp(lm.n_layers - 1))
    whole = mlp.forward

    def forward(hidden: Tensor) -> Tensor:
        index = positions[..., None].expand(-1, -1, hidden.shape[-1]).to(hidden.device)
        made = whole(hidden.gather(1, index)) * valid[..., None].to(hidden.device)
        return made.new_zeros(hidden.shape).scatter_add(1, index, made)

    mlp.forward = forward
    try:
        yield
    finally:
        del mlp.forward


@contextmanager
def checkpointed(lm: LanguageModel, after: int) -> Iterator[None]:
    """Context manager: layers above `after` are recomputed in the backward pass, keeping only inputs."""
    layers = [lm.model.get_submodule(lm.layer(number)) for number in range(after + 1, lm.n_layers)]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@dataclass(frozen=True)
class Streams:
    """The hidden states of some rows after one layer, a tensor (batch, seq, d) for each batch of them."""

    after: int
    hidden: list[Tensor]


@torch.no_grad()
def at_subjects(
    lm: LanguageModel,
    rows: Sequence[Located],
    state: State,
    cases: Sequence[int],
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    stop: str | None = None,
    below: Streams | None = None,
    keep: int = -1,
) -> tuple[dict[tuple[str, str], Tensor], Streams | None]:
    """Inputs and outputs of modules at each row's last subject token, each (rows, width).

    Row i runs with the weights of case `cases[i]` of `state`. The layers under `below`, streams of an earlier
    call with the same rows, are not run again; the streams after layer `keep` are returned for a later one.
    """
    parts, kept = [], []
    cut = per_token(state)  # then tokens after a subject are not needed there
    ends = [row.subject + 1 if cut else len(row.ids) for row in rows]
    state = merge_many(state, sum(ends) / max(1, len(set(cases))))
    stream = [lm.layer(keep)] if keep >= 0 else []
    for number, chosen in enumerate(batches(ends, BATCH_TOKENS)):
        ids, mask = lm.pad([rows[i].ids[: ends[i]] for i in chosen])
        at = torch.tensor([rows[i].subject for i in chosen], device=lm.device)
        index = torch.tensor([cases[i] for i in chosen], device=lm.device)
        prompt_ends = [min(rows[i].prompt_end, ends[i] - 1) for i in chosen]
        batch = Batch(ids, index, torch.tensor(prompt_ends, device=lm.device))
        after, hidden = (below.after, below.hidden[number]) if below else (-1, None)
        with (
            apply_deltas(lm, state, batch),
            start_after_layer(lm, after, hidden),
            record_activations(lm, inputs, [*outputs, *stream], stop) as seen,
        ):
            lm.run(ids, mask, use_cache=False)
        every = torch.arange(len(chosen), device=lm.device)
        kept += [seen["out", name] for name in stream]
        parts.append({key: value[every, at] for key, value in seen.items()})
    found = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return found, Streams(keep, kept) if kept else None


def batches(lengths: Sequence[int], tokens: int) -> Iterator[range]:
    """Consecutive ranges of rows whose padded size stays within `tokens`; each holds one row at least."""
    start, width = 0, 0
    for i, length in enumerate(lengths):
        width = max(width, length)
        if i > start and width * (i + 1 - start) > tokens:
            yield range(start, i)
            start, width = i, length
    if lengths:
        yield range(start, len(lengths))
