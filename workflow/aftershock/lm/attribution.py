"""Integrated gradients of answer probabilities with respect to an MLP's inner activations.

The activations a of one layer, at a prompt's last token, are scaled by each of m factors; what is attributed
is a * (1/m) * sum over the factors of dp/da at factor * a (Sundararajan et al., 2017). Only what lies above
that layer and behind that token is run again for each factor.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from aftershock.lm.edits import Batch, State, apply_deltas
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.prefix_cache import CachedPrefixes, split_at_subject
from aftershock.lm.texts.tokens import Located, Pair

CPU_TOKENS = 1024  # tokens run together, counted for every factor; larger batches are no faster on a CPU


@dataclass(frozen=True)
class Saying:
    """A prompt, and the tokens whose probability is attributed.

    Those of an `in_turn` saying follow each other: its probability is the geometric mean of theirs, each
    after the ones before. Otherwise all are read at the prompt's end, and it is their mean.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    in_turn: bool

    @classmethod
    def of(cls, pair: Pair) -> "Saying":
        """Make the saying of a target after its prompt."""
        return cls(pair.prompt, pair.target, in_turn=True)

    @property
    def row(self) -> Located:
        """The text to run, to be cut at the prompt's last token."""
        prompt = Located(self.prompt, len(self.prompt) - 1)
        return prompt.then(self.tokens[:-1]) if self.in_turn else prompt

    @property
    def read(self) -> tuple[int, ...]:
        """Positions at which each token is predicted, counted from the prompt's last token."""
        return tuple(range(len(self.tokens))) if self.in_turn else (0,) * len(self.tokens)


class Attribution(NamedTuple):
    """The share of each neuron of a layer in the probability of each saying, and its activation, both
    (sayings, neurons)."""

    scores: Tensor
    activations: Tensor


@dataclass(frozen=True)
class Place:
    """Inner activations of an MLP: the input of its last matrix, or the output of its first one.

    Where the first matrices are one, the gate comes first in its output.
    """

    lm: LanguageModel
    layer: int
    pre_activation: bool

    @property
    def module(self) -> str:
        """The module at which they are replaced."""
        if self.pre_activation:
            return self.lm.family.inputs[0].format(self.layer)
        return self.lm.projection(self.layer)

    @property
    def width(self) -> int:
        """The number of neurons."""
        return self.lm.weight(self.lm.projection(self.layer)).shape[1]

    def found(self, seen: dict[tuple[str, str], Tensor]) -> Tensor:
        """The activations among the recorded ones."""
        return seen["out" if self.pre_activation else "in", self.module][..., : self.width]

    @contextmanager
    def held_at(self, values: Tensor) -> Iterator[None]:
        """Context manager: the activations are replaced by `values` (rows, columns, width)."""
        module = self.lm.model.get_submodule(self.module)

        def put_out(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            return torch.cat([values.to(output), output[..., self.width :]], dim=-1)

        def put_in(module: Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (values.to(args[0]), *args[1:])

        handle = (
            module.register_forward_hook(put_out)
            if self.pre_activation
            else module.register_forward_pre_hook(put_in)
        )
        try:
            yield
        finally:
            handle.remove()


def attribute(
    lm: LanguageModel,
    sayings: Sequence[Saying],
    state: State,
    cases: Sequence[int],
    layer: int,
    factors: Tensor,
    pre_activation: bool = False,
    together: int | None = None,
) -> Attribution:
    """The share of each neuron of `layer` in the probability of each saying.

    Saying i starts from case `cases[i]` of `state`. `together` is the number of factors that are run at once.
    """
    place, together = Place(lm, layer, pre_activation), min(together or len(factors), len(factors))
    rows = [saying.row for saying in sayings]
    widths = [1 + row.behind for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (widths[i], len(rows[i].ids)))
    per_token = token_bytes(lm, max(1, lm.n_layers - 1 - layer), lm.context, backward=True)
    scored = 4 * lm.model.config.vocab_size * lm.dtype.itemsize
    costs = [together * (widths[i] * per_token + len(sayings[i].tokens) * scored) for i in order]

    def run(part: range) -> Attribution:
        chosen = [order[i] for i in part]
        return _attribute(
            place, [sayings[i] for i in chosen], state, [cases[i] for i in chosen], factors, together
        )

    parts = run_in_parts(costs, batch_limit(lm, per_token, CPU_TOKENS), run, "attributing a probability")
    back = torch.tensor(order, device=lm.device).argsort()
    scores, activations = (torch.cat(some)[back] for some in zip(*(found for _, found in parts), strict=True))
    return Attribution(scores, activations)


def _attribute(
    place: Place,
    sayings: Sequence[Saying],
    state: State,
    cases: Sequence[int],
    factors: Tensor,
    together: int,
) -> Attribution:
    lm, n = place.lm, len(sayings)
    index, mlp = torch.tensor(cases, device=lm.device), lm.mlp(place.layer)
    groups = [[saying.row] for saying in sayings]
    prefixes, seen = split_at_subject(
        lm, groups, place.layer, "mlp", state, index, [mlp, lm.projection(place.layer), place.module]
    )
    entering, activations = seen["in", mlp][:, 0], place.found(seen)[:, 0]
    with torch.no_grad():
        written = _written(place, prefixes, state, entering, activations)
    total = torch.zeros_like(activations)
    for some in factors.to(activations).split(together):
        rows = torch.arange(n, device=lm.device).repeat_interleave(len(some))
        scaled = (activations[:, None] * some[:, None]).flatten(0, 1).requires_grad_(True)
        repeated = prefixes.take(rows)
        with torch.enable_grad():
            added = _written(place, repeated, state, entering[rows], scaled) - written[rows]
            with _probabilities(lm, repeated, [sayings[i] for i in rows.tolist()], state, added) as found:
                (gradient,) = torch.autograd.grad(found.sum(), scaled)
        total += gradient.unflatten(0, (n, len(some))).sum(dim=1)
    return Attribution(total * activations / len(factors), activations)


def _written(
    place: Place, prefixes: CachedPrefixes, state: State, entering: Tensor, activations: Tensor
) -> Tensor:
    """The MLP's output at the prompts' ends with such inner activations, (rows, d)."""
    lm = place.lm
    texts, cases, ends = (
        tensor.flatten(0, 1) for tensor in (prefixes.texts, prefixes.cases, prefixes.prompt_ends)
    )
    mlp = lm.model.get_submodule(lm.mlp(place.layer))
    batch = Batch(texts, cases, ends, ends[:, None])
    with apply_deltas(lm, state, batch), place.held_at(activations[:, None]), lm.reduced():
        return mlp(entering[:, None])[:, 0].to(lm.device)


@contextmanager
def _probabilities(
    lm: LanguageModel, prefixes: CachedPrefixes, sayings: Sequence[Saying], state: State, added: Tensor
) -> Iterator[Tensor]:
    """The probability of each saying, (rows,), with `added` (rows, d) output at the prompts' ends."""
    width = max(len(saying.tokens) for saying in sayings)
    read, tokens, valid = (
        torch.tensor([[*values(s), *[0] * (width - len(s.tokens))] for s in sayings], device=lm.device)
        for values in (lambda s: s.read, lambda s: s.tokens, lambda s: [1] * len(s.tokens))
    )
    share = valid.to(lm.dtype) / valid.sum(dim=1, keepdim=True)
    suffix = torch.arange(prefixes.ids.shape[2], device=lm.device).expand(len(sayings), -1)
    run_here = suffix <= read.amax(dim=1, keepdim=True)  # the positions that predict something
    entered = prefixes.run(lm, state, added, suffix[:, None], run_here[:, None].to(lm.dtype), read)
    with entered as (hidden, _):
        logits = lm.logits(hidden)
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
        found = log_p.gather(2, tokens[..., None])[..., 0]
        in_turn = torch.tensor([saying.in_turn for saying in sayings], device=lm.device)
        geometric, mean = (found * share).sum(dim=1).exp(), (found.exp() * share).sum(dim=1)
        yield torch.where(in_turn, geometric, mean)
