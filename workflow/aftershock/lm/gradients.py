"""Inputs and output gradients of modules under a loss on target tokens.

Many cases run in one batch. Each has texts of its own whose target tokens are read, and its own loss, so that
no case's gradient depends on the cases beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from aftershock.lm.edits import EMPTY, Batch, State, apply_deltas, merge_many
from aftershock.lm.hooks import last_mlp_at
from aftershock.lm.model import Hook, LanguageModel
from aftershock.lm.texts.tokens import Pair

Gradients = dict[str, tuple[Tensor, Tensor]]
"""Input x (rows, positions, d_in) and gradient at the output (..., d_out), by module."""


@dataclass(frozen=True)
class Texts:
    """Prompts with their targets, in the order of their cases."""

    ids: Tensor  # (rows, seq)
    mask: Tensor  # (rows, seq)
    cases: Tensor  # the case of each row, ascending, (rows,)
    read: Tensor  # positions that predict a target's tokens, (rows, k)
    tokens: Tensor  # those tokens, (rows, k)
    valid: Tensor  # (rows, k), false where padded
    losses: Tensor | None = None  # the loss that each row counts in, (rows,); None: that of its case
    counted: Tensor | None = None  # (rows, k), the tokens that a loss is of; None: all that are valid

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        pairs: Sequence[Pair],
        cases: Sequence[int],
        whole: bool = False,
        losses: Sequence[int] | None = None,
    ) -> "Texts":
        """The texts of `pairs`. The last token of each predicts nothing and is left out unless `whole`.

        With `losses` a case has several, and row i counts in number `losses[i]`.
        """
        ids, mask = lm.pad([[*p.prompt, *(p.target if whole else p.target[:-1])] for p in pairs])
        shape = (len(pairs), max(len(pair.target) for pair in pairs))
        read, tokens = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        valid = torch.zeros(shape, dtype=torch.bool)
        for i, pair in enumerate(pairs):
            size = len(pair.target)
            read[i, :size] = len(pair.prompt) - 1 + torch.arange(size)
            tokens[i, :size], valid[i, :size] = torch.tensor(pair.target), True
        owner = torch.tensor(list(cases))
        made = cls(ids, mask, *(tensor.to(lm.device) for tensor in (owner, read, tokens, valid)))
        if losses is None:
            return made
        return replace(made, losses=torch.tensor(list(losses), device=lm.device))

    @property
    def batch(self) -> Batch:
        """The texts as a Batch for deltas."""
        return Batch(self.ids, self.cases, self.read[:, 0])


@dataclass(frozen=True)
class Reading:
    """Loss and exact matches of the targets of some texts."""

    losses: Tensor  # mean negative log-probability of the target tokens of each loss, by default a case
    exact: Tensor  # whether every token of a row's target is the likeliest one, (rows,)


def read_targets(lm: LanguageModel, texts: Texts, n_losses: int, state: State = EMPTY) -> Reading:
    """The loss of each case, over the target tokens of all its rows together (Mitchell et al., 2022, A.3).

    Cases whose rows count in several losses have as many; there are `n_losses` in all.

    Runs with the deltas of `state`, which the caller has applied, and keeps the graph for gradients where
    they are asked for.
    """
    with last_mlp_at(lm, texts.read, texts.valid.to(lm.dtype), state):
        hidden = lm.run(texts.ids, texts.mask, use_cache=False)
    logits = lm.logits(hidden.gather(1, texts.read[..., None].expand(-1, -1, hidden.shape[-1])))
    log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    counted = texts.valid if texts.counted is None else texts.counted
    found = log_p.gather(2, texts.tokens[..., None])[..., 0].where(counted, 0.0)
    exact = ((log_p.argmax(dim=-1) == texts.tokens) | ~counted).all(dim=1)
    owner = texts.cases if texts.losses is None else texts.losses
    total = found.new_zeros(n_losses).index_add(0, owner, -found.sum(dim=1))
    counts = found.new_zeros(n_losses).index_add(0, owner, counted.sum(dim=1).to(found.dtype))
    return Reading(total / counts, exact)


def module_gradients(
    lm: LanguageModel, texts: Texts, modules: Sequence[str], state: State, n_losses: int
) -> tuple[Tensor, Gradients]:
    """The losses (n_losses,) of `texts` in `state`, by default one per case, and gradients at `modules`.

    In the last layer's MLP only the positions that are read take part: elsewhere the gradient is zero.
    """
    inputs: dict[str, Tensor] = {}
    added: dict[str, Tensor] = {}

    def taker(name: str) -> Hook:
        def hook(module: Module, args: tuple[Any, ...], output: Any) -> Any:
            inputs[name] = args[0].detach()
            added[name] = torch.zeros_like(output, requires_grad=True)
            return output + added[name]

        return hook

    state = merge_many(state, int(texts.mask.sum()) / max(1, len(texts.cases.unique())))
    with apply_deltas(lm, state, texts.batch), torch.enable_grad():
        handles = [lm.model.get_submodule(name).register_forward_hook(taker(name)) for name in modules]
        try:
            losses = read_targets(lm, texts, n_losses, state).losses
        finally:
            for handle in handles:
                handle.remove()
        gradients = torch.autograd.grad(losses.sum(), [added[name] for name in modules])
    return losses.detach(), {
        name: (inputs[name], gradient) for name, gradient in zip(modules, gradients, strict=True)
    }
