"""Texts that a memory beside one matrix is trained on, and their loss with what the memory adds.

Nothing below the matrix changes in training, so that its inputs and outputs, and the hidden states after its
layer, are computed once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aftershock.lm.edits import Batch, State, apply_deltas
from aftershock.lm.hooks import record_activations, start_after_layer, with_added
from aftershock.lm.model import LanguageModel


@dataclass(frozen=True)
class Text:
    """Tokens, of which those of a prompt and the last `predicted` ones matter in different ways."""

    ids: tuple[int, ...]
    prompt: int
    """Its number of tokens."""
    predicted: int = 0
    share: float = 0.0
    """Weight of each predicted token in the loss."""


@dataclass(frozen=True)
class SideRows:
    """Texts of one case, and what the model makes of them up to the layer of the matrix."""

    ids: Tensor  # (rows, seq)
    valid: Tensor  # (rows, seq), false for padding
    prompts: Tensor  # (rows, seq), true for the tokens of prompts
    read: Tensor  # (rows, k), positions that predict a token
    tokens: Tensor  # (rows, k), these tokens
    shares: Tensor  # (rows, k), their weights in the loss, 0 where there are fewer
    left: bool
    x: Tensor  # (rows, seq, d_in), what the matrix reads
    y: Tensor  # (rows, seq, d_out), what it puts out
    stream: Tensor  # (rows, seq, d), after its layer
    written: Tensor | None  # (rows, seq, d), what the MLP puts out where that is changed before it joins

    @classmethod
    @torch.no_grad()
    def of(
        cls, lm: LanguageModel, texts: Sequence[Text], layer: int, state: State, left: bool = False
    ) -> "SideRows":
        """The rows of `texts`, run in `state`.

        With `left` padding stands in front, and most models count positions from it on, as in released code
        that gives a model none. No token sees it, and it sees everything alike.
        """
        width, k = max(len(text.ids) for text in texts), max(text.predicted for text in texts)
        ids = torch.full((len(texts), width), lm.pad_id)
        valid, prompts = (torch.zeros(ids.shape, dtype=torch.bool) for _ in range(2))
        read, tokens = (torch.zeros(len(texts), k, dtype=torch.long) for _ in range(2))
        shares = torch.zeros(len(texts), k, dtype=lm.dtype)
        for i, text in enumerate(texts):
            start = width - len(text.ids) if left else 0
            own, size = slice(start, start + len(text.ids)), text.predicted
            ids[i, own], valid[i, own] = torch.tensor(text.ids), True
            prompts[i, start : start + text.prompt] = True
            if size:
                read[i, :size] = own.stop - 1 - size + torch.arange(size)
                tokens[i, :size], shares[i, :size] = torch.tensor(text.ids[-size:]), text.share
        ids, valid, prompts, read, tokens, shares = (
            tensor.to(lm.device) for tensor in (ids, valid, prompts, read, tokens, shares)
        )
        unread = torch.empty(0)
        rows = cls(ids, valid, prompts, read, tokens, shares, left, unread, unread, unread, None)
        names = module, mlp, stream = lm.projection(layer), lm.mlp(layer), lm.layer(layer)
        with (
            apply_deltas(lm, state, rows._batch()),
            record_activations(lm, [module], names, stream) as seen,
        ):
            lm.run(rows.ids, rows._mask(lm), use_cache=False, **rows._positions(lm))
        written = seen["out", mlp] if lm.family.changes_output else None
        return replace(
            rows, x=seen["in", module], y=seen["out", module], stream=seen["out", stream], written=written
        )

    def first(self, count: int) -> "SideRows":
        """The first rows."""
        some = {name: value[:count] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **some)

    def loss(self, lm: LanguageModel, layer: int, added: Tensor, state: State) -> Tensor:
        """The weighted negative log-probability of all predicted tokens, with `added` (rows, seq, d_out) at
        the matrix."""
        hidden = with_added(lm, layer, self.stream, self.written, added)
        with apply_deltas(lm, state, self._batch()), start_after_layer(lm, layer, hidden), lm.reduced():
            out = lm.run(self.ids, self._mask(lm), use_cache=False, **self._positions(lm))
        logits = lm.logits(out.gather(1, self.read[..., None].expand(-1, -1, out.shape[-1])))
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
        return -(log_p.gather(2, self.tokens[..., None])[..., 0] * self.shares).sum()

    def _batch(self) -> Batch:
        """The rows as a Batch for deltas."""
        places = torch.arange(self.ids.shape[1], device=self.ids.device)
        ends = (places * self.prompts).amax(dim=1)
        return Batch(self.ids, torch.zeros(len(self.ids), dtype=torch.long, device=self.ids.device), ends)

    def _mask(self, lm: LanguageModel) -> Tensor | Mapping[str, Any] | None:
        if not self.left or bool(self.valid.all()):
            return None
        places = torch.arange(self.ids.shape[1], device=self.ids.device).expand(len(self.ids), -1)
        return lm.attention((places[0][:, None] >= places[0]) & self.valid[:, None], places, places)

    def _positions(self, lm: LanguageModel) -> dict[str, Tensor]:
        """The positions of models that take them from the mask; others count padding as well."""
        if not (self.left and lm.family.shown_positions):
            return {}
        return {"position_ids": self.valid.cumsum(dim=1) * self.valid - 1}


class EarlyEnd:
    """True once a loss is low and has stopped to change, as the released code of WISE and MEMOIR has it."""

    CHANGE, LOW = 1e-4, 0.02

    def __init__(self) -> None:
        self.before, self.last = 0.0, float("inf")

    def __bool__(self) -> bool:
        return abs(self.last - self.before) <= self.CHANGE and self.last <= self.LOW

    def update(self, loss: float) -> None:
        """Record the loss of an update."""
        self.before, self.last = self.last, loss
