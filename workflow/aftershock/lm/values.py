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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aftershock.lm.deltas import EMPTY, State
from aftershock.lm.hooks import batches
from aftershock.lm.model import LanguageModel
from aftershock.lm.suffix import Suffixes, cut
from aftershock.lm.tokens import Located, locate
from aftershock.prompts import fill
from aftershock.requests import EditRequest

ESSENCE = "{} is a"  # what follows the subject here should stay
ENOUGH = 0.05  # a value whose loss is below this is done (constant of the released code)
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam
BATCH_TOKENS = 1024  # suffix tokens that are optimised together

Text = tuple[list[Located], list[int]]  # the texts of one request, ESSENCE last, and the target's tokens


@dataclass(frozen=True)
class Objective:
    """What is optimised. `site` says whose output v0 is: the layer's `mlp` (ROME) or the `layer` (MEMIT)."""

    layer: int
    site: str
    steps: int
    lr: float
    weight_decay: float
    clamp: float
    kl_factor: float
    loss_layer: int | None = None  # the target's probability is read from this layer; None is the last


@dataclass(frozen=True)
class Values:
    """One row per request, in their order; `losses` is (steps, N), NaN where a value was done before."""

    init: Tensor  # v0, (N, d)
    delta: Tensor  # (N, d)
    losses: Tensor
    updates: Tensor  # (N,)
    reasons: list[str | None]  # why a value failed
    log_p0: Tensor  # what follows the subject of ESSENCE in the unchanged model, (N, vocabulary)
    keys: Tensor  # inputs of the projection of `key_layer`, (N, contexts, d_in)
    projected: Tensor  # its output in the first context, (N, d_out)

    @property
    def target(self) -> Tensor:
        """v*, (N, d)."""
        return self.init + self.delta

    @property
    def final_losses(self) -> Tensor:
        """The loss at the returned delta, (N,)."""
        return self.losses.gather(0, self.updates[None])[0]


@dataclass(frozen=True)
class _Problem:
    """N values: their texts, where these predict the target, and what limits the values."""

    suffixes: Suffixes
    read: Tensor  # (N, R, k) suffix positions that predict something
    valid: Tensor  # (N, R, k), false where padded
    scored: Tensor  # (N, M + 1) positions in R * S: M that predict target tokens, then the subject of ESSENCE
    tokens: Tensor  # (N, M)
    weights: Tensor  # (N, M): 1 / (contexts * target tokens), 0 where padded
    init: Tensor  # v0, (N, d)
    log_p0: Tensor  # (N, vocabulary); empty before the first pass

    def take(self, keep: Tensor) -> "_Problem":
        tensors = {name: value[keep] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, suffixes=self.suffixes.take(keep), **tensors)

    def log_probs(self, lm: LanguageModel, objective: Objective, state: State, delta: Tensor) -> Tensor:
        """Log-probabilities at the scored positions, (N, M + 1, vocabulary)."""
        early = objective.loss_layer
        also = lm.layer(early) if early is not None and early < lm.n_layers - 1 else None
        hidden, lens = self.suffixes.run(lm, state, delta, self.read, self.valid, also)
        index = self.scored[..., None].expand(-1, -1, hidden.shape[-1])
        chosen = hidden.gather(1, index)
        if lens is not None:
            norm = lm.model.get_submodule(lm.family.norm)
            chosen = torch.cat([norm(lens.gather(1, index[:, :-1])), chosen[:, -1:]], dim=1)
        return lm.logits(chosen).log_softmax(dim=-1)

    def loss(self, objective: Objective, log_p: Tensor, delta: Tensor) -> Tensor:
        """The loss of every value, (N,)."""
        nll = -(log_p[:, :-1].gather(2, self.tokens[..., None])[..., 0] * self.weights).sum(dim=1)
        after = log_p[:, -1]
        kl = (after.exp() * (after - self.log_p0)).sum(dim=1)
        decay = delta.norm(dim=1) / self.init.norm(dim=1).square()
        return nll + objective.kl_factor * kl + objective.weight_decay * decay


def solve_values(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    objective: Objective,
    state: State = EMPTY,
    cases: Sequence[int] | None = None,
    key_layer: int | None = None,
) -> Values:
    """The values of `requests`, each read through all `contexts`: templates for the prompt, the first plain.

    Request i starts from case `cases[i]` of `state`. `key_layer` (by default the edited one) names the layer
    whose keys are returned: they come free with the first pass. A request whose loss is not finite fails
    alone.
    """
    texts = _texts(lm, requests, contexts)
    index = torch.tensor(cases if cases is not None else [0] * len(requests), device=lm.device)
    sizes = [(len(contexts) + 1) * max(len(row.ids) - row.subject for row in rows) for rows, _ in texts]
    order = torch.tensor(sorted(range(len(requests)), key=sizes.__getitem__), device=lm.device)
    parts = []
    for chunk in batches([sizes[i] for i in order], BATCH_TOKENS):
        chosen = order[chunk.start : chunk.stop]
        group = [texts[i] for i in chosen]
        key = objective.layer if key_layer is None else key_layer
        parts.append(_solve(lm, group, objective, state, index[chosen], key))
    back = order.argsort()
    whole = {
        name: torch.cat([getattr(part, name) for part in parts])[back]
        for name in ("init", "delta", "updates", "log_p0", "keys", "projected")
    }
    reasons = [reason for part in parts for reason in part.reasons]
    return Values(
        losses=torch.cat([part.losses for part in parts], dim=1)[:, back],
        reasons=[reasons[i] for i in back],
        **whole,
    )


def _texts(lm: LanguageModel, requests: Sequence[EditRequest], contexts: Sequence[str]) -> list[Text]:
    """The texts of each request: all but ESSENCE are followed by the target without its last token.

    Tokens are joined, not characters, so that a target is the same tokens here as where it is scored.
    """
    targets = lm.encode_targets([request.target_new for request in requests])
    asked = [
        (template, request.subject)
        for request in requests
        for template in [*(fill(context, request.prompt) for context in contexts), ESSENCE]
    ]
    located = iter(locate(lm, asked))
    texts = []
    for request, target in zip(requests, targets, strict=True):
        rows = [next(located).then(target[:-1]) for _ in contexts]
        for row in rows:
            lm.check_length([*row.ids, target[-1]], f"{request.text} {request.target_new}")
        texts.append(([*rows, next(located)], target))
    return texts


def _prepare(
    lm: LanguageModel,
    texts: Sequence[Text],
    objective: Objective,
    state: State,
    cases: Tensor,
    key_layer: int,
) -> tuple[_Problem, Tensor, Tensor]:
    site = {"mlp": lm.mlp, "layer": lm.layer}[objective.site](objective.layer)
    projection = lm.projection(key_layer)
    groups = [rows for rows, _ in texts]
    suffixes, seen = cut(lm, groups, objective.layer, state, cases, [site, projection])
    width = suffixes.ids.shape[2]
    n, contexts = len(texts), len(groups[0]) - 1
    k = max(len(target) for _, target in texts)
    m = contexts * k
    read, valid = torch.zeros((n, contexts + 1, k), dtype=torch.long), torch.zeros((n, contexts + 1, k))
    valid[:, contexts, 0] = 1.0  # ESSENCE is read at its subject, where its suffix begins
    scored = torch.zeros((n, m + 1), dtype=torch.long)
    tokens, weights = torch.zeros((n, m), dtype=torch.long), torch.zeros((n, m), dtype=lm.dtype)
    for i, (rows, target) in enumerate(texts):
        # the first target token is predicted by the prompt's last one; the row ends with all but the last
        first = [r * width + len(row.ids) - len(target) - row.subject for r, row in enumerate(rows[:-1])]
        where = [start + t for start in first for t in range(len(target))]
        read[i, :contexts, : len(target)] = torch.tensor(where).view(contexts, -1) % width
        valid[i, :contexts, : len(target)] = 1.0
        scored[i, : len(where)] = torch.tensor(where)
        scored[i, m] = contexts * width
        tokens[i, : len(where)] = torch.tensor(target * contexts)
        weights[i, : len(where)] = 1.0 / len(where)
    problem = _Problem(
        suffixes=suffixes,
        read=read.to(lm.device),
        valid=valid.to(lm.device, lm.dtype),
        scored=scored.to(lm.device),
        tokens=tokens.to(lm.device),
        weights=weights.to(lm.device),
        init=seen["out", site][:, 0],
        log_p0=seen["out", site].new_empty(n, 0),
    )
    return problem, seen["in", projection][:, :contexts], seen["out", projection][:, 0]


def _solve(
    lm: LanguageModel,
    texts: Sequence[Text],
    objective: Objective,
    state: State,
    cases: Tensor,
    key_layer: int,
) -> Values:
    problem, keys, projected = _prepare(lm, texts, objective, state, cases, key_layer)
    n, init = len(texts), problem.init
    found, delta = torch.zeros_like(init), torch.zeros_like(init)
    first_moment, second_moment = torch.zeros_like(init), torch.zeros_like(init)
    losses = init.new_full((objective.steps, n), math.nan)
    updates = torch.zeros(n, dtype=torch.long, device=lm.device)
    reasons: list[str | None] = [None] * n
    live = torch.arange(n, device=lm.device)
    log_p0 = problem.log_p0
    for step in range(objective.steps):
        delta.requires_grad_(True)
        log_p = problem.log_probs(lm, objective, state, delta)
        if step == 0:
            log_p0 = log_p[:, -1].detach()
            problem = replace(problem, log_p0=log_p0)
        loss = problem.loss(objective, log_p, delta)
        losses[step, live], found[live], updates[live] = loss.detach(), delta.detach(), step
        broken = ~loss.isfinite()
        for i in live[broken].tolist():
            reasons[i] = f"the loss of the value was {losses[step, i].item()} at step {step}"
        going = ~broken & (loss >= ENOUGH)
        if step == objective.steps - 1 or not going.any():
            break
        (gradient,) = torch.autograd.grad(loss[going].sum(), delta)
        delta = delta.detach()
        if not going.all():
            problem, live = problem.take(going), live[going]
            delta, gradient, first_moment, second_moment = (
                tensor[going] for tensor in (delta, gradient, first_moment, second_moment)
            )
        delta = _adam(delta, gradient, first_moment, second_moment, step + 1, objective.lr)
        norm, limit = (
            delta.norm(dim=1, keepdim=True),
            objective.clamp * problem.init.norm(dim=1, keepdim=True),
        )
        delta = torch.where(norm > limit, delta * (limit / norm), delta)
    return Values(init, found, losses, updates, reasons, log_p0, keys, projected)


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
