"""Texts whose prefixes are run once, so that each step runs only their ends.

A vector added at a subject's last token cannot be seen by the tokens before. So these are run once, their
keys and values are kept, and every further pass starts at that token and above the edited layer. Up to that
layer the first pass runs all tokens, and above it only those before the subject's last one. Vectors that are
added inside the edited layer, to its attention's and its MLP's outputs, have that layer run again as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from aftershock.lm.edits import Batch, State, apply_deltas, per_token
from aftershock.lm.edits.state import in_weights
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
from aftershock.lm.optimisation.frozen_cache import FrozenCache
from aftershock.lm.optimisation.gpt2_layers import Gpt2Layers
from aftershock.lm.optimisation.llama_layers import LlamaLayers
from aftershock.lm.optimisation.upper_layers import UpperLayers
from aftershock.lm.optimisation.written_out import WrittenOut
from aftershock.lm.texts.tokens import Located


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
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        wanted: Tensor,
        also: Sequence[str] = (),
        checkpoint: bool = False,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Hidden states with `added`, (N, d) or (N, P, d), at every group's subject tokens.

        The first ones are after the final norm, at the places `wanted` (N, K) in R * S, which are among the
        positions `read` (N, R, k) where these are `valid`: (N, K, d). Elsewhere they are any. The second ones
        are, by name, the outputs of the modules `also`, (N, R * S, d). With `checkpoint`, gradients are to be
        taken inside: layers are then run again for them instead of being kept.
        """
        n, rows = self.ids.shape[:2]
        # changes of weights that no pass runs are left out
        above = tuple(d for d in state if not (in_weights(d) and d.first_layer <= self.layer))
        hidden, inside = self.hidden, {}
        if self.modules:
            each = added.repeat_interleave(rows, dim=0).unbind(dim=1)
            inside = dict(zip(self.modules, each, strict=True))
        elif hidden is not None:
            first = with_added(lm, self.layer, hidden[:, :, 0], self.written, added[:, None])
            known = None if above or also or checkpoint else self._written_out(lm, hidden, read, valid)
            if known is not None and known.is_plain:
                yield known(first.flatten(0, 1))[self._order(known.read, wanted)], {}
                return
            hidden = torch.cat([first[:, :, None], hidden[:, :, 1:]], dim=2)
        with ExitStack() as stack:
            if above:
                stack.enter_context(apply_deltas(lm, above, self._batch))
            stack.enter_context(last_mlp_at(lm, read.flatten(0, 1), valid.flatten(0, 1), state))
            if inside:
                stack.enter_context(add_to_outputs(lm, inside))
            seen = stack.enter_context(record_activations(lm, outputs=also)) if also else {}
            if checkpoint:
                stack.enter_context(checkpointed(lm, self.layer))
            with lm.reduced():
                out = self._passes(lm)(None if hidden is None else hidden.flatten(0, 1))
            shape = (n, -1, out.shape[-1])
            # a layer that is left out puts out what the pass starts from
            left_out = out if hidden is None else hidden
            yield (
                out.reshape(shape).gather(1, wanted[..., None].expand(-1, -1, shape[-1])),
                {name: seen.get(("out", name), left_out).reshape(shape) for name in also},
            )

    def _passes(self, lm: LanguageModel) -> UpperLayers:
        """The passes above the layer, with what the first of them leaves for others."""
        if "passes" not in self._made:
            past, mask = self._all(lm)
            self._made["passes"] = UpperLayers(
                lm,
                self.layer,
                self.ids.flatten(0, 1),
                mask=mask,
                position_ids=self.positions.flatten(0, 1),
                past_key_values=FrozenCache(past, forget=True),
                use_cache=True,
            )
        return self._made["passes"]

    def _written_out(
        self, lm: LanguageModel, hidden: Tensor, read: Tensor, valid: Tensor
    ) -> WrittenOut | None:
        """The layers above as one operation, where they are known; `read` and `valid` are (N, R, k)."""
        (of, where), found = self._made.get("written out", ((None, None), None))
        if of is None or not (of is read or torch.equal(of, read) and torch.equal(where, valid)):
            texts = torch.arange(read[..., 0].numel(), device=read.device)[:, None]
            places = (texts * self.ids.shape[2] + read.flatten(0, 1))[valid.flatten(0, 1) > 0].sort()[0]
            given = (hidden.flatten(0, 1), *self._all(lm), self.positions.flatten(0, 1), places)
            made = (kind.of(lm, self.layer, *given) for kind in (Gpt2Layers, LlamaLayers))
            found = next(filter(None, made), None)
            self._made["written out"] = (read, valid), found
        return found

    def _order(self, places: Tensor, wanted: Tensor) -> Tensor:
        """Return which of the sorted `places` in N * R * S are `wanted`, (N, K); any where none is."""
        of, found = self._made.get("order", (None, None))
        if of is not wanted:
            starts = self.ids[0].numel() * torch.arange(len(wanted), device=wanted.device)[:, None]
            found = torch.searchsorted(places, wanted + starts).clamp(max=len(places) - 1)
            self._made["order"] = wanted, found
        return found

    def _all(self, lm: LanguageModel) -> tuple[list[tuple[Tensor, Tensor]], Any]:
        """Keys and values of all layers, and the mask, rows one after the other."""
        if "kept" not in self._made:
            positions = self.positions.flatten(0, 1)
            keys = torch.cat([self.places.flatten(0, 1), positions], dim=1)  # of kept tokens, then their own
            mask = lm.attention(self.allowed.flatten(0, 1), positions, keys)
            self._made["kept"] = [(k.flatten(0, 1), v.flatten(0, 1)) for k, v in self.past], mask
        return self._made["kept"]

    @cached_property
    def _batch(self) -> Batch:
        """The rows as a Batch for deltas."""
        texts, cases, ends, positions = (
            rows.flatten(0, 1) for rows in (self.texts, self.cases, self.prompt_ends, self.positions)
        )
        return Batch(texts, cases, ends, positions)


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
