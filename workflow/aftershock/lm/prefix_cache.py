"""Texts of which only the end is run again and again.

A vector added at a subject's last token cannot be seen by the tokens before. So these are run once, their
keys and values are kept, and every further pass starts at that token and above the edited layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from aftershock.lm.edits import Batch, State, apply_deltas
from aftershock.lm.hooks import checkpointed, last_mlp_at, record_activations, start_after_layer, with_added
from aftershock.lm.model import LanguageModel
from aftershock.lm.tokens import Located


class FrozenCache(DynamicCache):
    """Keys and values that a pass reads and does not add to: several passes start from the same ones."""

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions that are kept; the layers that no pass runs keep none of their width."""
        return self.layers[layer_idx].keys.shape[-2]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The kept keys and values with those of the running tokens after them."""
        kept = self.layers[layer_idx]
        return (
            torch.cat([kept.keys.to(key_states.dtype), key_states], dim=-2),
            torch.cat([kept.values.to(value_states.dtype), value_states], dim=-2),
        )


@dataclass(frozen=True)
class CachedPrefixes:
    """N groups of R texts each, cut at the subject's last token: P tokens at most before it, S from it on."""

    layer: int  # the stream is entered after this layer
    ids: Tensor  # (N, R, S)
    positions: Tensor  # (N, R, S)
    allowed: Tensor  # (N, R, S, P + S), boolean
    past: tuple[tuple[Tensor, Tensor], ...]  # keys and values per layer, each (N, R, heads, P, width or 0)
    hidden: Tensor  # (N, R, S, d), the stream after `layer`
    texts: Tensor  # (N, R, seq), ids of the whole texts
    prompt_ends: Tensor  # (N, R), index of each prompt's last token in its text
    cases: Tensor  # (N, R)
    written: (
        Tensor | None
    )  # (N, R, d), the MLP's output at the subject, where it is changed before it joins the stream

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
        also: str | None = None,
        checkpoint: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Hidden states with `added` (N, d) at every group's subject tokens, (N, R * S, d).

        The first ones are after the final norm, and right at `read` (N, R, k) where that is `valid`; the
        second ones those that module `also` put out. With `checkpoint`, gradients are to be taken inside:
        layers are then run again for them instead of being kept.
        """
        n = len(self.ids)
        positions = self.positions.flatten(0, 1)
        hidden = torch.cat([self._entered(lm, added)[:, :, None], self.hidden[:, :, 1:]], dim=2)
        cache = FrozenCache([(k.flatten(0, 1), v.flatten(0, 1)) for k, v in self.past])
        with (
            apply_deltas(lm, state, self._batch(positions)),
            start_after_layer(lm, self.layer, hidden.flatten(0, 1)),
            last_mlp_at(lm, read.flatten(0, 1), valid.flatten(0, 1), state),
            record_activations(lm, outputs=[also] if also else []) as seen,
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
            yield out.reshape(shape), seen["out", also].reshape(shape) if also else None

    def _batch(self, positions: Tensor) -> Batch:
        """The rows as deltas see them."""
        return Batch(self.texts.flatten(0, 1), self.cases.flatten(), self.prompt_ends.flatten(), positions)

    def _entered(self, lm: LanguageModel, added: Tensor) -> Tensor:
        """The stream at the subject tokens with `added` (N, d) written there, (N, R, d)."""
        return with_added(lm, self.layer, self.hidden[:, :, 0], self.written, added[:, None])

    def _keys(self, positions: Tensor) -> Tensor:
        """The positions of all that the suffixes see: of the kept tokens, then their own, (N * R, P + S)."""
        kept = torch.arange(self.allowed.shape[-1] - positions.shape[1], device=positions.device)
        return torch.cat([kept.expand(len(positions), -1), positions], dim=1)


@torch.no_grad()
def split_at_subject(
    lm: LanguageModel,
    groups: Sequence[Sequence[Located]],
    layer: int,
    site: str,
    state: State,
    cases: Tensor,
    look: Sequence[str],
) -> tuple[CachedPrefixes, dict[tuple[str, str], Tensor]]:
    """Run `groups` of texts once, group i in case `cases[i]` of `state`, and cut them.

    A vector is to be added at `site` of `layer`: to its "mlp" or to the whole "layer". Also what went into
    and came out of each module of `look` at the subject tokens, (N, R, width).
    """
    rows = [row for group in groups for row in group]
    shape = (len(groups), len(groups[0]))
    ids, mask = lm.pad([row.ids for row in rows])
    subject = torch.tensor([row.subject for row in rows], device=lm.device)
    length = mask.sum(dim=1)
    before, after = int(subject.max()), int((length - subject).max())
    cache = DynamicCache()
    stream, normed = lm.layer(layer), site == "mlp" and lm.family.changes_output
    look = [*look, lm.mlp(layer)] if normed else look
    row_cases = cases.repeat_interleave(shape[1])
    prompt_ends = torch.tensor([row.prompt_end for row in rows], device=lm.device)
    batch = Batch(ids, row_cases, prompt_ends)
    with apply_deltas(lm, state, batch), record_activations(lm, outputs=[stream, *look]) as seen:
        lm.run(ids, mask, past_key_values=cache, use_cache=True)

    every = torch.arange(len(rows), device=lm.device)
    offsets = torch.arange(after, device=lm.device)
    positions = (subject[:, None] + offsets).clamp(max=ids.shape[1] - 1)
    earlier = torch.arange(before, device=lm.device) < subject[:, None]
    causal = offsets[:, None] >= offsets
    allowed = torch.cat([earlier[:, None].expand(-1, after, -1), causal.expand(len(rows), -1, -1)], dim=2)
    at_subject = {key: value[every, subject].unflatten(0, shape) for key, value in seen.items()}
    prefixes = CachedPrefixes(
        layer=layer,
        ids=ids.gather(1, positions).unflatten(0, shape),
        positions=positions.unflatten(0, shape),
        allowed=allowed.unflatten(0, shape),
        past=tuple(
            tuple(
                part[:, :, :before, slice(None if number > layer else 0)].unflatten(0, shape)
                for part in (kept.keys, kept.values)
            )
            for number, kept in enumerate(cache.layers)
        ),
        hidden=seen["out", stream][every[:, None], positions].unflatten(0, shape),
        texts=ids.unflatten(0, shape),
        prompt_ends=prompt_ends.unflatten(0, shape),
        cases=row_cases.unflatten(0, shape),
        written=at_subject["out", lm.mlp(layer)] if normed else None,
    )
    return prefixes, at_subject
