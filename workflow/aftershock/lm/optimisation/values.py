"""Optimisation of a layer's output at the last subject token so that the model gives a target.

The value that ROME and MEMIT share (Meng et al., 2022 and 2023, as their released code computes it): a vector
delta is added to the residual stream after one layer, at the last subject token of every text, and

    loss = mean over texts and target tokens of -log p(token)
         + kl_factor * KL(p_delta || p_0) of what follows the subject in "{} is a"
         + weight_decay * |delta| / |v0|^2

falls under Adam; `objective` has what other methods change about it. Many values are optimised at once; each
has its own loss, stop and norm limit, so that none depends on its neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aftershock.lm.edits import EMPTY, State, merge_many
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation import value_problem
from aftershock.lm.optimisation.objective import Objective
from aftershock.lm.optimisation.value_problem import ValueProblem, text_bytes, write_texts
from aftershock.requests import EditRequest

ENOUGH = 0.05  # a value whose loss is below this is done (constant of the released code)
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam
CPU_TOKENS = 1024  # suffix tokens that are optimised together; larger batches are no faster on a CPU


@dataclass(frozen=True)
class Values:
    """Optimised values, one row per request in order; `losses` is (steps, N), NaN once a value has ended."""

    init: Tensor  # v0, (N, d); at "both" sites (N, 2, d)
    delta: Tensor  # as optimised, like v0
    change: Tensor  # v* - v0: delta, where its norm is not anchored
    norms: Tensor  # |v0 + delta| of the MLP's own v0, (N,)
    skipped: Tensor  # values that were too long for the anchor, (N,) boolean
    losses: Tensor
    updates: Tensor  # (N,)
    reasons: list[str | None]  # why a value failed
    log_p0: Tensor  # log-probabilities after the subject of ESSENCE in the unchanged model, (N, vocabulary)
    keys: Tensor  # inputs of the projection of `key_layer`, (N, contexts, d_in)
    projected: Tensor  # its outputs, (N, contexts, d_out)

    @property
    def target(self) -> Tensor:
        """v*, like v0."""
        return self.init + self.change

    @property
    def final_losses(self) -> Tensor:
        """The loss at delta, (N,)."""
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
    below = objective.layer - (objective.site == "both")  # layers from there on are not run again
    costs = [text_bytes(lm, text, below) for text in texts]
    order = sorted(range(len(requests)), key=costs.__getitem__)
    per_token = token_bytes(lm, lm.n_layers - 1 - below, lm.context, backward=True)

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
        for name in ("init", "delta", "change", "norms", "skipped", "updates", "log_p0", "keys", "projected")
    }
    reasons = [reason for part in parts for reason in part.reasons]
    return Values(
        losses=torch.cat([part.losses for part in parts], dim=1)[:, back],
        reasons=[reasons[i] for i in back],
        **whole,
    )


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
    passes = torch.zeros_like(live)  # steps at which the target was greedy
    eased = torch.zeros_like(live, dtype=torch.bool)
    watched = objective.watched(lm.n_layers)
    log_p0: Tensor | None = None
    for step in range(objective.steps):
        delta.requires_grad_(True)
        entered = problem.logits(lm, objective.lens, state, delta, checkpoint, watched)
        with entered as (logits, streams):
            loss, kl, log_p = objective.loss(problem, logits, log_p0, delta, eased, streams)
            if log_p0 is None:
                log_p0 = first = log_p[:, -1].clone()
            losses[step].index_copy_(0, live, loss.detach())
            ended, eased = objective.ends(problem, log_p, kl, passes)
            finite = loss.isfinite()
            going = finite & (loss >= ENOUGH) & ~ended
            last, all_go = step == objective.steps - 1, bool(going.all())
            if last or not all_go:
                done = torch.ones_like(going) if last else ~going
                found[live[done]], updates[live[done]] = delta.detach()[done], step
                for i in live[~finite].tolist():
                    reasons[i] = f"the loss of the value was {losses[step, i].item()} at step {step}"
                if last or done.all():
                    break
            (gradient,) = torch.autograd.grad(loss, delta, going.to(loss.dtype))
        delta = delta.detach()
        if not all_go:
            problem = problem.take(going)
            live, passes, eased, log_p0 = live[going], passes[going], eased[going], log_p0[going]
            delta, gradient, mean, square = (tensor[going] for tensor in (delta, gradient, mean, square))
        delta = adam(delta, gradient, mean, square, step + 1, objective.lr)
        limit = objective.clamp * problem.norm / delta.norm(dim=-1)
        delta = delta * limit.clamp(max=1.0)[..., None]
    anchored = objective.anchor(mlp, found)
    seen = keys[:, :contexts], projected[:, :contexts]
    return Values(init, found, *anchored, losses, updates, reasons, first, *seen)


def adam(
    value: Tensor, gradient: Tensor, first_moment: Tensor, second_moment: Tensor, step: int, lr: float
) -> Tensor:
    """`value` after update number `step` (from 1); changes the moments in place.

    Adam is elementwise, so one call serves many values without mixing them.
    """
    first_moment.lerp_(gradient, 1 - BETAS[0])
    second_moment.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    scale = second_moment.sqrt().div_(math.sqrt(1 - BETAS[1] ** step)).add_(EPSILON)
    return value.addcdiv(first_moment, scale, value=-lr / (1 - BETAS[0] ** step))
