"""Answers in windows, and a value in front of each: what the model has to put out there to say the window.

A value delta is added to the output of one layer at the token before its window, with the values of earlier
windows in place, and

    loss = mean over the window's tokens of -log p(token) + weight_decay * |delta| / |v0|^2

falls under Adam. Windows follow each other; those of different texts are optimised together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aftershock.lm.edits import Batch, State, apply_deltas
from aftershock.lm.hooks import record_activations, start_after_layer, with_added
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.values import adam
from aftershock.lm.texts.tokens import Pair


@dataclass(frozen=True)
class Text:
    """The tokens of a prompt and its answer, of a case, and the answer's windows."""

    case: int
    ids: tuple[int, ...]
    places: tuple[int, ...]
    """The token before each window."""
    windows: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, case: int, pair: Pair, size: int) -> "Text":
        """Cut the target of `pair` into windows of `size` tokens, the last one perhaps shorter."""
        starts = range(0, len(pair.target), size)
        places = tuple(len(pair.prompt) - 1 + start for start in starts)
        windows = tuple(pair.target[start : start + size] for start in starts)
        return cls(case, (*pair.prompt, *pair.target), places, windows)


@dataclass
class Found:
    """The values of a text's windows: their changes (windows, d), updates, last losses, and a reason."""

    deltas: list[Tensor]
    steps: int = 0
    losses: tuple[float, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Stream:
    """Texts in a state, up to one layer's output."""

    ids: Tensor  # (rows, seq)
    cases: Tensor  # (rows,)
    ends: Tensor  # (rows,), of prompts
    hidden: Tensor  # (rows, seq, d), after the layer
    written: Tensor | None  # (rows, seq, d), its MLP's output where a norm follows

    def take(self, rows: Tensor, width: int | None = None) -> "Stream":
        """Return some rows, up to a width."""
        found = {
            name: tensor if tensor is None else tensor[rows][:, :width] if tensor.ndim > 1 else tensor[rows]
            for name, tensor in vars(self).items()
        }
        return Stream(**found)

    @property
    def output(self) -> Tensor:
        """The output that values are added to."""
        return self.hidden if self.written is None else self.written


@torch.no_grad()
def read_stream(lm: LanguageModel, texts: Sequence[Text], layer: int, state: State) -> Stream:
    """Return texts in a state, up to the output of `layer`."""
    ids, mask = lm.pad([text.ids for text in texts])
    cases, ends = (
        torch.tensor(numbers, device=lm.device)
        for numbers in ([text.case for text in texts], [text.places[0] for text in texts])
    )
    outputs = [lm.mlp(layer)] if lm.family.mlp_norm else []
    with (
        apply_deltas(lm, state, Batch(ids, cases, ends)),
        record_activations(lm, outputs=outputs, stop=lm.layer(layer)) as seen,
    ):
        lm.run(ids, mask, use_cache=False)
    written = seen["out", lm.mlp(layer)] if outputs else None
    return Stream(ids, cases, ends, seen["out", lm.layer(layer)], written)


def solve_windows(
    lm: LanguageModel, texts: Sequence[Text], layer: int, settings: Any, state: State
) -> list[Found]:
    """Return the values of the windows of `texts`, text i in case `texts[i].case` of `state`.

    A text whose loss is not finite has a reason and no further values. settings: `steps`, `lr`,
    `weight_decay`, `clamp` and `enough`.
    """
    stream = read_stream(lm, texts, layer, state)
    added = torch.zeros_like(stream.output)
    found = [Found([]) for _ in texts]
    for number in range(max(len(text.windows) for text in texts)):
        rows = [i for i, text in enumerate(texts) if number < len(text.windows) and not found[i].reason]
        if not rows:
            break
        some = [texts[i] for i in rows]
        width = max(text.places[number] + len(text.windows[number]) for text in some)
        chosen = torch.tensor(rows, device=lm.device)
        window = Window.of(lm, some, number, layer, stream.take(chosen, width), added[chosen, :width])
        window.optimise(settings, state, [found[i] for i in rows])
        for i in rows:
            if found[i].reason is None:
                added[i, texts[i].places[number]] = found[i].deltas[number]
    return found


@dataclass(frozen=True)
class Window:
    """One window of each of some texts, with the values of earlier windows in place."""

    lm: LanguageModel
    layer: int
    stream: Stream
    added: Tensor  # (rows, seq, d), earlier values
    place: Tensor  # (rows,), of this window's value
    tokens: Tensor  # (rows, size)
    shares: Tensor  # (rows, size), of each token in the mean, 0 where padded

    @classmethod
    def of(
        cls, lm: LanguageModel, texts: Sequence[Text], number: int, layer: int, stream: Stream, added: Tensor
    ) -> "Window":
        """Take the windows of a number of `texts`, which are the rows of `stream`."""
        tokens, mask = lm.pad([text.windows[number] for text in texts])
        shares = mask.to(lm.dtype) / mask.sum(dim=1, keepdim=True)
        place = torch.tensor([text.places[number] for text in texts], device=lm.device)
        return cls(lm, layer, stream, added, place, tokens, shares)

    def optimise(self, settings: Any, state: State, found: Sequence[Found]) -> None:
        """Minimise the loss of each row by itself; `found` takes the changes, steps and losses."""
        window, live = self, torch.arange(len(found), device=self.lm.device)
        rows = torch.arange(len(found), device=self.lm.device)
        size = self.stream.output[rows, self.place].norm(dim=1, keepdim=True)
        delta = torch.zeros_like(self.stream.output[:, 0])
        mean, square = torch.zeros_like(delta), torch.zeros_like(delta)
        for step in range(settings.steps):
            delta.requires_grad_(True)
            nll = window.nll(delta, state)
            loss = nll + settings.weight_decay * delta.norm(dim=1) / size[live, 0] ** 2
            going = loss.isfinite() & (loss >= settings.enough)
            if step == settings.steps - 1:
                going = torch.zeros_like(going)
            for row in (~going).nonzero()[:, 0].tolist():
                _take(found[live[row]], delta[row].detach(), step, float(loss[row].detach()))
            if not going.any():
                return
            (gradient,) = torch.autograd.grad(loss[going].sum(), delta)
            delta = delta.detach()
            if not going.all():
                window, live = window.take(going), live[going]
                delta, gradient, mean, square = (t[going] for t in (delta, gradient, mean, square))
            delta = adam(delta, gradient, mean, square, step + 1, settings.lr)
            norm, limit = delta.norm(dim=1, keepdim=True), settings.clamp * size[live]
            delta = torch.where(norm > limit, delta * (limit / norm), delta)

    def take(self, rows: Tensor) -> "Window":
        """Return some rows, a mask."""
        some = {name: getattr(self, name)[rows] for name in ("added", "place", "tokens", "shares")}
        return replace(self, stream=self.stream.take(rows), **some)

    def nll(self, delta: Tensor, state: State) -> Tensor:
        """Return the mean negative log-probability of each row's tokens with `delta` (rows, d) added."""
        rows = torch.arange(len(delta), device=delta.device)
        added = self.added.index_put((rows, self.place), delta, accumulate=True)
        stream, lm = self.stream, self.lm
        hidden = with_added(lm, self.layer, stream.hidden, stream.written, added)
        with (
            apply_deltas(lm, state, Batch(stream.ids, stream.cases, stream.ends)),
            start_after_layer(lm, self.layer, hidden),
            lm.reduced(),
        ):
            hidden = lm.run(stream.ids, None, use_cache=False)
        read = self.place[:, None] + torch.arange(self.tokens.shape[1], device=delta.device)
        read = read.clamp(max=hidden.shape[1] - 1)
        log_p = lm.logits(hidden[rows[:, None], read]).log_softmax(dim=-1)
        return -(log_p.gather(2, self.tokens[..., None])[..., 0] * self.shares).sum(dim=1)


def _take(found: Found, delta: Tensor, step: int, loss: float) -> None:
    found.steps += step
    found.losses += (loss,)
    if torch.tensor(loss).isfinite():
        found.deltas.append(delta)
    else:
        number = len(found.deltas)
        found.reason = f"the loss of window {number} of the answer was {loss} at step {step}"
