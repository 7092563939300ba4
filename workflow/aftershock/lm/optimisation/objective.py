"""The loss of an optimised value, its early ends, and the norm that it is brought to.

The options of several methods: an early end (MPES of ENCORE, Gupta et al., 2025), two deltas and an end of
their own (PMET, Li et al., 2024), a penalty on contexts that differ (CORE, arXiv 2505.23026), and an anchor
of the norm (NAS, arXiv 2602.02543).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aftershock.lm.optimisation.value_problem import ValueProblem

EASED = 0.1  # PMET: factor of the target's weight in a step after one where it is greedy everywhere


@dataclass(frozen=True)
class Objective:
    """The optimisation of values of one layer.

    `site` says whose output v0 is: the layer's "mlp" (ROME), the "layer" (MEMIT), or "both" its attention and
    its MLP, with a delta of its own for each, (N, 2, d) (PMET).
    """

    layer: int
    site: str
    steps: int
    lr: float
    weight_decay: float
    clamp: float
    kl_factor: float
    loss_layer: int | None = None  # the target's probability is read from it; None is the last, see `lens`
    nll_factor: float = 1.0
    kl_enough: float | None = None  # PMET: KL below which a value with a greedy target ends; None: off
    prob_cutoff: float = 0.0  # -n: ends at the n-th step with a greedy target; p > 0: above p; 0: off
    prob_cutoff_tokens: int | None = None  # number of right tokens that count as the target; None is all
    context_penalty: float = 0.0  # weight of the differences between contexts at their subjects
    context_layers: int = 0  # the number of layers above `layer` that they are compared after
    norm_anchor: float | None = None  # the norm of all that the MLP is to add, delta included; None: free
    norm_anchor_limit: float | None = None  # in such norms: a value longer than this is left at v0

    @property
    def lens(self) -> int | None:
        """The layer that the target's probability is read from, none below the value's; None is the last."""
        return None if self.loss_layer is None else max(self.loss_layer, self.layer)

    def watched(self, n_layers: int) -> list[int]:
        """Return the layers after which contexts are compared; ValueError where there would be none."""
        if not self.context_penalty:
            return []
        found = range(self.layer + 1, min(self.layer + 1 + self.context_layers, n_layers))
        if not found:
            raise ValueError(
                f"context_penalty {self.context_penalty:g} compares contexts after {self.context_layers} "
                f"layers above layer {self.layer}, and the model has {n_layers - 1 - self.layer} there; set "
                "context_layers, or edit a lower layer"
            )
        return list(found)

    def loss(
        self,
        problem: ValueProblem,
        logits: Tensor,
        log_p0: Tensor | None,
        delta: Tensor,
        eased: Tensor,
        streams: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss of every value, (N,), its divergence KL(p_delta || p_0) alone, (N,), and log p.

        `logits` (N, M + 1, vocabulary) and `streams` are what `ValueProblem.logits` yields, and log p is like
        the former. `log_p0` (N, vocabulary) is that after the subject of ESSENCE without delta; None: as it
        is now. In values that are `eased` (N,) the target weighs less.
        """
        weights = problem.weights if self.nll_factor == 1 else self.nll_factor * problem.weights
        if self.kl_enough is not None:
            weights = torch.where(eased[:, None], EASED * weights, weights)
        decay = self.weight_decay / problem.norm.square()
        loss, kl, log_p = _Loss.apply(logits, delta, problem.tokens, weights, log_p0, self.kl_factor, decay)
        return (loss + self.context_penalty * _distance(streams) if streams else loss), kl, log_p

    def ends(self, problem: ValueProblem, log_p: Tensor, kl: Tensor, passes: Tensor) -> tuple[Tensor, Tensor]:
        """Return masks of values that end before the step (N,), and of those eased in the next one (N,).

        Steps at which the target was said are counted in `passes` (N,), whatever lies between.
        """
        ended = torch.zeros_like(passes, dtype=torch.bool)
        if self.prob_cutoff < 0:
            passes += problem.is_said(log_p, self.prob_cutoff_tokens)
            ended = passes >= -self.prob_cutoff
        elif self.prob_cutoff > 0:
            ended = problem.probability(log_p) > self.prob_cutoff
        if self.kl_enough is None:
            return ended, torch.zeros_like(ended)
        eased = problem.is_said(log_p, plain=True)
        return ended | (eased & (kl <= self.kl_enough)), eased

    def anchor(self, mlp: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return v* - v0 with its norm anchored, |v*| before that, and a mask of values that were too long.

        z = (h - v0) + v* n / |v*| with v* = v0 + delta, where h is the layer's output and v0, or `mlp`, that
        of its MLP. What is too long is not written at all. Of two deltas it is the MLP's.
        """
        written = mlp + (delta if delta.ndim == 2 else delta[:, -1])
        norms = written.norm(dim=1)
        skipped = torch.zeros_like(norms, dtype=torch.bool)
        if self.norm_anchor is None:
            return delta, norms, skipped
        if self.norm_anchor_limit is not None:
            skipped = norms > self.norm_anchor_limit * self.norm_anchor
        moved = written * (self.norm_anchor / norms)[:, None] - mlp
        if delta.ndim == 3:
            moved = torch.cat([delta[:, :-1], moved[:, None]], dim=1)
        return torch.where(skipped.reshape(-1, *[1] * (delta.ndim - 1)), 0.0, moved), norms, skipped


class _Loss(torch.autograd.Function):
    """The loss of every value, (N,), its divergence, (N,), and log p; the latter two have no gradient.

    - sum of weights * log p(tokens) + kl_factor * KL(p || p0) in the last row + decay * |delta|, for `logits`
    (N, M + 1, vocabulary), `tokens` and `weights` (N, M), `log_p0` (N, vocabulary), `delta` (N, d) or
    (N, P, d) and `decay` (N,) or (N, P). The gradient at the logits is weights * (p - onehot(tokens)), and
    kl_factor * p * (log p - log p0 - KL) in the last row. Log p is overwritten by it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        delta: Tensor,
        tokens: Tensor,
        weights: Tensor,
        log_p0: Tensor | None,
        kl_factor: float,
        decay: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_p = logits.log_softmax(dim=-1)
        index, norm, after = tokens[..., None], delta.norm(dim=-1), log_p[:, -1]
        moved = torch.zeros_like(after) if log_p0 is None else after - log_p0
        kl = (after.exp() * moved).sum(dim=1)
        nll = -(log_p[:, :-1].gather(2, index)[..., 0] * weights).sum(dim=1)
        ctx.save_for_backward(index, weights, log_p, moved, kl, delta, norm, decay)
        ctx.kl_factor = kl_factor
        ctx.mark_non_differentiable(kl, log_p)
        ctx.set_materialize_grads(False)  # log p's would be zeros of its size
        return nll + kl_factor * kl + (decay * norm).reshape(len(nll), -1).sum(dim=1), kl, log_p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        index, weights, log_p, moved, kl, delta, norm, decay = ctx.saved_tensors
        each, slope = gradients[0][:, None], log_p.exp_()  # which nobody reads any more
        weighted = (each * weights)[..., None]
        slope[:, :-1].mul_(weighted).scatter_add_(2, index, -weighted)
        slope[:, -1].mul_((moved - kl[:, None]).mul_(ctx.kl_factor * each))
        along = (decay * gradients[0].reshape(-1, *[1] * (decay.ndim - 1)) / norm).masked_fill(norm == 0, 0.0)
        return slope, delta * along[..., None], None, None, None, None, None


def _distance(streams: Sequence[Tensor]) -> Tensor:
    """The sum over pairs of contexts of |h_i - h_j|^2 / d, averaged over layers, (N,).

    `streams` are (N, contexts, d) for each layer; the sum is as many times that of squares around the mean as
    there are contexts.
    """
    each = [(h - h.mean(dim=1, keepdim=True)).square().sum(dim=(1, 2)) for h in streams]
    _, contexts, width = streams[0].shape
    return torch.stack(each).mean(dim=0) * contexts / width


def trimmed_mean(norms: Tensor, share: float = 0.95) -> float:
    """Return the mean of `norms` without the largest ones, as many as `share` leaves whole (NAS)."""
    dropped = math.floor((1 - share) * len(norms))
    return float(norms.sort().values[: len(norms) - dropped].mean())
