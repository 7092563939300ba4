"""Optimising what a layer should write at the last subject token so that the model says a target.

The value that ROME and MEMIT share (Meng et al., 2022 and 2023, as their released code computes it): a vector
delta is added to the residual stream after one layer, at the last subject token of every text, and

    loss = mean over texts and target tokens of -log p(token)
         + kl_factor * KL(p_delta || p_0) of what follows the subject in "{} is a"
         + weight_decay * |delta| / |v0|^2

falls under Adam. Many values are optimised at once; each has its own loss, stop and norm limit, so that none
depends on its neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aftershock.lm import value_problem
from aftershock.lm.edits import EMPTY, State, merge_many
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.value_problem import ValueProblem, text_bytes, write_texts
from aftershock.requests import EditRequest

ENOUGH = 0.05  # a value whose loss is below this is done (constant of the released code)
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam
CPU_TOKENS = 1024  # suffix tokens that are optimised together; more gain a CPU nothing


@dataclass(frozen=True)
class Objective:
    """What is optimised. `site` says whose output v0 is: the layer's "mlp" (ROME) or the "layer" (MEMIT)."""

    layer: int
    site: str
    steps: int
    lr: float
    weight_decay: float
    clamp: float
    kl_factor: float
    loss_layer: int | None = None  # the target's probability is read from this layer; None is the last
    prob_cutoff: float = 0.0  # -n: ends at the n-th step that says the target; p > 0: above p; 0: off
    prob_cutoff_tokens: int | None = None  # how many right tokens say the target; None is all
    norm_anchor: float | None = None  # the norm of all that the MLP is to add, delta included; None: free
    norm_anchor_limit: float | None = None  # in such norms: a value longer than this is left at v0


@dataclass(frozen=True)
class Values:
    """One row per request, in their order; `losses` is (steps, N), NaN where a value was done before."""

    init: Tensor  # v0, (N, d)
    delta: Tensor  # (N, d)
    mlp: Tensor  # what the layer's MLP adds to v0, (N, d); v0 itself where that is the MLP's output
    norms: Tensor  # |mlp + delta|, as optimised, (N,)
    skipped: Tensor  # values that were too long for the anchor, (N,) boolean
    losses: Tensor
    updates: Tensor  # (N,)
    reasons: list[str | None]  # why a value failed
    log_p0: Tensor  # what follows the subject of ESSENCE in the unchanged model, (N, vocabulary)
    keys: Tensor  # inputs of the projection of `key_layer`, (N, contexts, d_in)
    projected: Tensor  # its outputs, (N, contexts, d_out)

    @property
    def target(self) -> Tensor:
        """v*, (N, d)."""
        return self.init + self.delta

    @property
    def final_losses(self) -> Tensor:
        """The loss at the last delta, before its norm was anchored, (N,)."""
        return self.losses.gather(0, self.updates[None])[0]


def solve_values(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    objective: Objective,
    state: State = EMPTY,
    cases: Sequence[int] | None = None,
    key_layer: int | None = None,
    labels: Sequence[Sequence[str]] | None = None,
) -> Values:
    """The values of `requests`, each read through all `contexts`: templates for the prompt, the first plain.

    Request i starts from case `cases[i]` of `state`. `key_layer` (by default the edited one) names the layer
    whose keys are returned: they come free with the first pass. With `labels` a value is to make each of its
    request's labels as likely as the others, instead of the request's target. A request whose loss is not
    finite fails alone.
    """
    cases = list(cases) if cases is not None else [0] * len(requests)
    texts = write_texts(lm, requests, contexts, labels, state, cases)
    tokens = objective.steps * sum(len(row.ids) for text in texts for row, _ in text)
    state = merge_many(state, tokens / max(1, len(set(cases))))
    index = torch.tensor(cases, device=lm.device)
    costs = [text_bytes(lm, text, objective.layer) for text in texts]
    order = sorted(range(len(requests)), key=costs.__getitem__)
    per_token = token_bytes(lm, lm.n_layers - 1 - objective.layer, lm.context, backward=True)

    def solve(part: range, checkpoint: bool = False) -> Values:
        chosen = [order[i] for i in part]
        key = objective.layer if key_layer is None else key_layer
        group = value_problem.build(
            lm,
            [texts[i] for i in chosen],
            objective.layer,
            objective.site,
            state,
            index[chosen],
            key,
            contexts,
        )
        return _solve(lm, objective, state, *group, len(contexts), checkpoint)

    found = run_in_parts(
        [costs[i] for i in order],
        batch_limit(lm, per_token, CPU_TOKENS),
        solve,
        "optimising a value",
        lambda part: solve(part, checkpoint=True),
    )
    parts = [values for _, values in found]
    back = torch.tensor(order, device=lm.device).argsort()
    whole = {
        name: torch.cat([getattr(part, name) for part in parts])[back]
        for name in ("init", "delta", "mlp", "norms", "skipped", "updates", "log_p0", "keys", "projected")
    }
    reasons = [reason for part in parts for reason in part.reasons]
    return Values(
        losses=torch.cat([part.losses for part in parts], dim=1)[:, back],
        reasons=[reasons[i] for i in back],
        **whole,
    )


def _loss(
    problem: ValueProblem, objective: Objective, log_p: Tensor, log_p0: Tensor, delta: Tensor
) -> Tensor:
    """The loss of every value, (N,)."""
    nll = -(log_p[:, :-1].gather(2, problem.tokens[..., None])[..., 0] * problem.weights).sum(dim=1)
    after = log_p[:, -1]
    kl = (after.exp() * (after - log_p0)).sum(dim=1)
    decay = delta.norm(dim=1) / problem.init.norm(dim=1).square()
    return nll + objective.kl_factor * kl + objective.weight_decay * decay


def _solve(
    lm: LanguageModel,
    objective: Objective,
    state: State,
    problem: ValueProblem,
    keys: Tensor,
    projected: Tensor,
    contexts: int,
    checkpoint: bool,
) -> Values:
    n, init, mlp = len(problem.init), problem.init, problem.mlp
    found, delta = torch.zeros_like(init), torch.zeros_like(init)
    mean, square = torch.zeros_like(init), torch.zeros_like(init)
    losses = init.new_full((objective.steps, n), math.nan)
    updates = torch.zeros(n, dtype=torch.long, device=lm.device)
    reasons: list[str | None] = [None] * n
    live = torch.arange(n, device=lm.device)
    passes = torch.zeros_like(live)  # steps at which the target was said
    for step in range(objective.steps):
        delta.requires_grad_(True)
        with problem.log_probs(lm, objective.loss_layer, state, delta, checkpoint) as log_p:
            if step == 0:
                log_p0 = first = log_p[:, -1].detach()
            loss = _loss(problem, objective, log_p, log_p0, delta)
            losses[step, live], found[live], updates[live] = loss.detach(), delta.detach(), step
            broken = ~loss.isfinite()
            for i in live[broken].tolist():
                reasons[i] = f"the loss of the value was {losses[step, i].item()} at step {step}"
            going = ~broken & (loss >= ENOUGH) & ~_cut_off(problem, objective, log_p.detach(), passes)
            if step == objective.steps - 1 or not going.any():
                break
            (gradient,) = torch.autograd.grad(loss[going].sum(), delta)
        delta = delta.detach()
        if not going.all():
            problem = problem.take(going)
            live, passes, log_p0 = live[going], passes[going], log_p0[going]
            delta, gradient, mean, square = (tensor[going] for tensor in (delta, gradient, mean, square))
        delta = _adam(delta, gradient, mean, square, step + 1, objective.lr)
        norm, limit = (
            delta.norm(dim=1, keepdim=True),
            objective.clamp * problem.init.norm(dim=1, keepdim=True),
        )
        delta = torch.where(norm > limit, delta * (limit / norm), delta)
    norms = (mlp + found).norm(dim=1)
    found, skipped = _anchor(objective, mlp, found, norms)
    seen = keys[:, :contexts], projected[:, :contexts]
    return Values(init, found, mlp, norms, skipped, losses, updates, reasons, first, *seen)


def _cut_off(problem: ValueProblem, objective: Objective, log_p: Tensor, passes: Tensor) -> Tensor:
    """True for values that `prob_cutoff` ends, (N,); counts their steps in `passes`."""
    cutoff = objective.prob_cutoff
    if cutoff < 0:
        passes += problem.is_said(log_p, objective.prob_cutoff_tokens)
        return passes >= -cutoff
    if cutoff > 0:
        return problem.probability(log_p) > cutoff
    return torch.zeros_like(passes, dtype=torch.bool)


def _anchor(objective: Objective, mlp: Tensor, delta: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """The deltas whose v* has the anchored norm, (N, d), and which of them are 0 as v* was too long, (N,).

    NAS, arXiv 2602.02543: z = (h - v0) + v* n / |v*| with v* = v0 + delta, where h is the layer's output and
    v0 its MLP's.
    """
    anchor, limit = objective.norm_anchor, objective.norm_anchor_limit
    if anchor is None:
        return delta, torch.zeros_like(norms, dtype=torch.bool)
    skipped = torch.zeros_like(norms, dtype=torch.bool) if limit is None else norms > limit * anchor
    moved = (mlp + delta) * (anchor / norms)[:, None] - mlp
    return moved.masked_fill(skipped[:, None], 0.0), skipped


def trimmed_mean(norms: Tensor, share: float = 0.95) -> float:
    """Return the mean of those `norms` that are no larger than the quantile `share` of them."""
    return float(norms[norms <= norms.quantile(share)].mean())


def _adam(
    value: Tensor, gradient: Tensor, first_moment: Tensor, second_moment: Tensor, step: int, lr: float
) -> Tensor:
    """`value` after update number `step` (from 1); changes the moments in place.

    Adam is elementwise, so one call serves many values without mixing them.
    """
    first_moment.lerp_(gradient, 1 - BETAS[0])
    second_moment.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    scale = second_moment.sqrt().div_(math.sqrt(1 - BETAS[1] ** step)).add_(EPSILON)
    return value.addcdiv(first_moment, scale, value=-lr / (1 - BETAS[0] ** step))
