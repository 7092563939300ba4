"""Texts whose prefixes are run once, so that each step runs only their ends.

A vector added at a subject's last token cannot be seen by the tokens before. So these are run once, their
keys and values are kept, and every further pass starts at that token and above the edited layer. Up to that
layer the first pass runs all tokens, and above it only those before the subject's last one. Vectors that are
added inside the edited layer, to its attention's and its MLP's outputs, have that layer run again as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from aftershock.lm.edits import Batch, State, apply_deltas, per_token
from aftershock.lm.hooks import (
    add_to_outputs,
    checkpointed,
    last_mlp_at,
    record_activations,
    start_after_layer,
    with_added,
)
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.context_cache import recall
from aftershock.lm.texts.tokens import Located


class FrozenCache(DynamicCache):
    """Keys and values that a pass reads and does not add to: several passes start from the same ones.

    Those of the running tokens are `made`, by layer.
    """

    def __init__(self, past: Sequence[tuple[Tensor, Tensor]] = ()) -> None:
        super().__init__(past or None)
        self.made: dict[int, tuple[Tensor, Tensor]] = {}

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions that are kept; the layers that no pass runs keep none of their width."""
        return self.layers[layer_idx].keys.shape[-2] if self.layers else 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The kept keys and values with those of the running tokens after them."""
        self.made[layer_idx] = key_states, value_states
        if not self.layers:
            return key_states, value_states
        kept = self.layers[layer_idx]
        return (
            torch.cat([kept.keys.to(key_states.dtype), key_states], dim=-2),
            torch.cat([kept.values.to(value_states.dtype), value_states], dim=-2),
        )


@dataclass(frozen=True)
class CachedPrefixes:
    """N groups of R texts each, cut at the subject's last token: P tokens at most before it, S from it on."""

    layer: int  # the stream is entered after this layer; -1: nothing is skipped
    ids: Tensor  # (N, R, S)
    positions: Tensor  # (N, R, S)
    allowed: Tensor  # (N, R, S, P + S), boolean
    past: tuple[tuple[Tensor, Tensor], ...]  # keys and values per layer, each (N, R, heads, P, width or 0)
    places: Tensor  # (N, R, P), the positions of these in their texts
    hidden: Tensor | None  # (N, R, S, d), the stream after `layer`, if there is one
    texts: Tensor  # (N, R, seq), ids of the whole texts
    prompt_ends: Tensor  # (N, R), index of each prompt's last token in its text
    cases: Tensor  # (N, R)
    written: (
        Tensor | None
    )  # (N, R, d), the MLP's output at the subject, where it is changed before it joins the stream
    modules: tuple[str, ...] = ()  # P modules whose outputs are added to; without any, it is the stream

    def take(self, keep: Tensor) -> "CachedPrefixes":
        """Some of the groups."""
        tensors = {name: value[keep] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, past=tuple((k[keep], v[keep]) for k, v in self.past), **tensors)

    @contextmanager
    def run(
        self,
        lm: LanguageModel,
        state: State,
        added: Tensor,
        read: Tensor,
        valid: Tensor,
        also: Sequence[str] = (),
        checkpoint: bool = False,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Hidden states with `added`, (N, d) or (N, P, d), at every group's subject tokens, (N, R * S, d).

        The first ones are after the final norm, and right at `read` (N, R, k) where that is `valid`; the
        second ones, by name, the outputs of the modules `also`. With `checkpoint`, gradients are to be taken
        inside: layers are then run again for them instead of being kept.
        """
        n, rows = self.ids.shape[:2]
        positions = self.positions.flatten(0, 1)
        hidden, inside = self.hidden, {}
        if self.modules:
            each = added.repeat_interleave(rows, dim=0).unbind(dim=1)
            inside = dict(zip(self.modules, each, strict=True))
        elif hidden is not None:
            first = with_added(lm, self.layer, hidden[:, :, 0], self.written, added[:, None])
            hidden = torch.cat([first[:, :, None], hidden[:, :, 1:]], dim=2)
        cache = FrozenCache([(k.flatten(0, 1), v.flatten(0, 1)) for k, v in self.past])
        with (
            apply_deltas(lm, state, self._batch(positions)),
            start_after_layer(lm, self.layer, None if hidden is None else hidden.flatten(0, 1)),
            last_mlp_at(lm, read.flatten(0, 1), valid.flatten(0, 1), state),
            add_to_outputs(lm, inside),
            record_activations(lm, outputs=also) as seen,
            checkpointed(lm, self.layer) if checkpoint else nullcontext(),
        ):
            with lm.reduced():
                out = lm.run(
                    self.ids.flatten(0, 1),
                    lm.attention(self.allowed.flatten(0, 1), positions, self._keys(positions)),
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                )
            shape = (n, -1, out.shape[-1])
            yield out.reshape(shape), {name: seen["out", name].reshape(shape) for name in also}

    def _batch(self, positions: Tensor) -> Batch:
        """The rows as a Batch for deltas."""
        return Batch(self.texts.flatten(0, 1), self.cases.flatten(), self.prompt_ends.flatten(), positions)

    def _keys(self, positions: Tensor) -> Tensor:
        """The positions of all that the suffixes see: of the kept tokens, then their own, (N * R, P + S)."""
        return torch.cat([self.places.flatten(0, 1), positions], dim=1)


@torch.no_grad()
def split_at_subject(
    lm: LanguageModel,
    groups: Sequence[Sequence[Located]],
    layer: int,
    site: str,
    state: State,
    cases: Tensor,
    look: Sequence[str],
    beginnings: Sequence[str] = (),
) -> tuple[CachedPrefixes, dict[tuple[str, str], Tensor]]:
    """Run `groups` of texts once, group i in case `cases[i]` of `state`, and cut them.

    A vector is to be added at `site` of `layer`: to its "mlp" or to the whole "layer"; or, at "both", one to
    its attention and one to its MLP. Also what went into and came out of each module of `look`, up to that
    layer, at the subject tokens, (N, R, width). Texts that start with one of `beginnings` are run from there
    on: the model keeps what it makes of these.
    """
    rows = [row for group in groups for row in group]
    shape, every = (len(groups), len(groups[0])), torch.arange(len(rows), device=lm.device)
    known = recall(lm, () if state else beginnings)
    which = [known.before(row) for row in rows]
    ids, mask = lm.pad([row.ids for row in rows])
    subject, prompt_ends, skipped = (
        torch.tensor(values, device=lm.device)
        for values in (
            [row.subject for row in rows],
            [row.prompt_end for row in rows],
            [len(known.ids[i]) for i in which],
        )
    )
    length, row_cases = mask.sum(dim=1), cases.repeat_interleave(shape[1])
    stream, normed = lm.layer(layer), site == "mlp" and lm.family.changes_output
    look = [*look, lm.mlp(layer)] if normed else look
    start = layer - 1 if site == "both" else layer
    entry = [lm.layer(start)] if start >= 0 else []

    past = known.past(which)
    rest = (skipped[:, None] + _up_to(length - skipped)).clamp(max=ids.shape[1] - 1)
    first = FrozenCache(past)
    batch = partial(Batch, ids, row_cases, prompt_ends)
    with (
        apply_deltas(lm, state, batch(rest)),
        record_activations(lm, outputs=[*look, *entry, stream], stop=stream) as seen,
    ):
        _run_from(lm, ids, rest, skipped, first)
    # above the layer only what comes before a subject, unless a delta has yet to see the whole prompt
    before = subject - skipped
    middle = rest[:, : int(before.max())] if per_token(state) else rest
    second = FrozenCache(past)
    if middle.shape[1] and layer < lm.n_layers - 1:
        hidden = seen["out", stream][:, : middle.shape[1]]
        with apply_deltas(lm, state, batch(middle)), start_after_layer(lm, layer, hidden):
            _run_from(lm, ids, middle, skipped, second)

    positions = (subject[:, None] + _up_to(length - subject)).clamp(max=ids.shape[1] - 1)
    kept = rest[:, : int(before.max())]
    places = torch.cat([_up_to(skipped.new_tensor([known.width])).expand(len(rows), -1), kept], dim=1)
    earlier = torch.cat(
        [places[:, : known.width] < skipped[:, None], _up_to(before) < before[:, None]], dim=1
    )
    after = _up_to(length - subject)
    causal = (after[:, None] >= after).expand(len(rows), -1, -1)
    allowed = torch.cat([earlier[:, None].expand(-1, len(after), -1), causal], dim=2)
    columns = subject - skipped
    at_subject = {key: value[every, columns].unflatten(0, shape) for key, value in seen.items()}
    suffix = (positions - skipped[:, None]).clamp(max=rest.shape[1] - 1)
    prefixes = CachedPrefixes(
        layer=start,
        ids=ids.gather(1, positions).unflatten(0, shape),
        positions=positions.unflatten(0, shape),
        allowed=allowed.unflatten(0, shape),
        past=_joined(past, first.made | second.made, range(start + 1, lm.n_layers), kept.shape[1], shape),
        places=places.unflatten(0, shape),
        hidden=seen["out", entry[0]][every[:, None], suffix].unflatten(0, shape) if entry else None,
        texts=ids.unflatten(0, shape),
        prompt_ends=prompt_ends.unflatten(0, shape),
        cases=row_cases.unflatten(0, shape),
        written=at_subject["out", lm.mlp(layer)] if normed else None,
        modules=(lm.attention_projection(layer), lm.mlp(layer)) if site == "both" else (),
    )
    return prefixes, at_subject


def _up_to(lengths: Tensor) -> Tensor:
    """0, 1, ... below the largest of `lengths`."""
    return torch.arange(int(lengths.max()), device=lengths.device)


def _run_from(lm: LanguageModel, ids: Tensor, columns: Tensor, skipped: Tensor, cache: FrozenCache) -> None:
    """Run the tokens `columns` of `ids`, which see those kept in `cache`, `skipped` of each row's."""
    width = cache.get_seq_length()
    kept = torch.arange(width, device=ids.device).expand(len(ids), -1)
    seen = (kept < skipped[:, None])[:, None].expand(-1, columns.shape[1], -1)
    order = torch.arange(columns.shape[1], device=ids.device)
    own = (order[:, None] >= order).expand(len(ids), -1, -1)
    mask = lm.attention(torch.cat([seen, own], dim=2), columns, torch.cat([kept, columns], dim=1))
    lm.run(ids.gather(1, columns), mask, position_ids=columns, past_key_values=cache, use_cache=True)


def _joined(
    past: Sequence[tuple[Tensor, Tensor]],
    made: Mapping[int, tuple[Tensor, Tensor]],
    layers: range,
    size: int,
    shape: tuple[int, int],
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return keys and values of `past`, then the first `size` of those `made`, as CachedPrefixes has them.

    Of layers that are not among `layers`, which no pass will run, only the number is right.
    """

    def join(number: int, part: int) -> Tensor:
        new = made.get(number, made[0])[part][:, :, :size]
        whole = torch.cat([past[number][part], new], dim=2) if past else new
        return whole[..., slice(None if number in layers else 0)].unflatten(0, shape)

    return tuple((join(number, 0), join(number, 1)) for number in range(layers.stop))
