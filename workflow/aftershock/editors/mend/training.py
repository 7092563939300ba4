"""Training MEND's hypernetwork for one model (Mitchell et al., 2022).

Every batch edits the unedited model: each of its edits gets a delta of its own, and the losses of all are
taken in one batch. Gradients reach the hypernetwork through the deltas alone, as in the released code: what
it is given counts as data.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aftershock.editors.mend import MendTraining
from aftershock.editors.mend.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from aftershock.lm.edits import State, apply_deltas, first_layer
from aftershock.lm.gradients import Texts, module_gradients, read_targets
from aftershock.lm.hooks import record_activations, start_after_layer
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.progress import Progress
from aftershock.seeds import generator

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class Batch:
    """Some edits: the texts whose gradient makes them, other wordings, and texts they should leave alone."""

    edits: int
    inner: Texts
    outer: Texts
    local: Texts


Draw = Callable[[np.random.Generator], Batch]


@dataclass(frozen=True)
class Losses:
    """Per edit: negative log-probability of the targets, and divergence of the texts to leave alone."""

    edit: Tensor  # (edits,)
    local: Tensor  # (edits,)
    state: State = field(repr=False)

    def total(self, settings: MendTraining) -> Tensor:
        """The training loss: the mean over edits."""
        return (settings.cedit * self.edit + settings.cloc * self.local).mean()


def losses(lm: LanguageModel, net: Hypernetwork, batch: Batch, observe: bool) -> Losses:
    """Edit with `net` and return the losses; with `observe` its normalisers see the edits' tokens."""
    _, gradients = module_gradients(lm, batch.inner, list(net.shapes), (), batch.edits)
    state = net(gradients, batch.inner.cases, batch.edits, observe)
    with apply_deltas(lm, state, batch.outer.batch):
        edit = read_targets(lm, batch.outer, batch.edits).losses
    return Losses(edit, divergence(lm, batch.local, state, batch.edits), state)


def divergence(lm: LanguageModel, texts: Texts, state: State, n_cases: int) -> Tensor:
    """KL(unedited || edited) of what follows each token, the mean over all tokens of a case, (cases,)."""
    seen = texts.mask.bool()

    def log_probs() -> Tensor:
        logits = lm.logits(lm.run(texts.ids, texts.mask, use_cache=False)[seen])
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)

    below = first_layer([state]) - 1  # the last layer unchanged
    stream = [lm.layer(below)] if below >= 0 else []
    with torch.no_grad(), record_activations(lm, outputs=stream) as found:
        before = log_probs()
    hidden = found["out", stream[0]] if stream else None
    with apply_deltas(lm, state, texts.batch), start_after_layer(lm, below, hidden):
        after = log_probs()
    kl = (before.exp() * (before - after)).sum(dim=-1)
    owner = texts.cases[:, None].expand(seen.shape)[seen]
    counts = torch.bincount(owner, minlength=n_cases).clamp(min=1)
    return kl.new_zeros(n_cases).index_add(0, owner, kl) / counts


@torch.no_grad()
def validate(
    lm: LanguageModel, net: Hypernetwork, batches: list[Batch], settings: MendTraining
) -> dict[str, float]:
    """Mean losses over dev edits, and two shares: greedy targets after other wordings, texts still greedy.

    A text that is not greedy in the unedited model is not counted among those to preserve.
    """
    sums = dict.fromkeys(("val_edit", "val_local", "val_total"), 0.0)
    said: list[bool] = []
    kept: list[bool] = []
    for batch in batches:
        found = losses(lm, net, batch, observe=False)
        sums["val_edit"] += float(found.edit.sum())
        sums["val_local"] += float(found.local.sum())
        sums["val_total"] += float(found.total(settings)) * batch.edits
        before = read_targets(lm, batch.local, batch.edits).exact
        with apply_deltas(lm, found.state, batch.outer.batch):
            said += read_targets(lm, batch.outer, batch.edits).exact.tolist()
        with apply_deltas(lm, found.state, batch.local.batch):
            kept += read_targets(lm, batch.local, batch.edits).exact[before].tolist()
    edits = sum(batch.edits for batch in batches)
    shares = {"success": np.mean(said).item(), "locality": np.mean(kept).item() if kept else math.nan}
    return {name: value / edits for name, value in sums.items()} | shares


def train(
    lm: LanguageModel,
    net: Hypernetwork,
    draw: Draw,
    development: list[Batch],
    settings: MendTraining,
    seed: int = 0,
    checkpoint: Path | None = None,
    identity: str = "",
    progress: Progress | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[Hypernetwork, list[dict[str, float]]]:
    """Train; return the hypernetwork with the lowest dev loss, and the curve: a row per evaluation on dev.

    `draw` makes a batch from a generator that depends on `seed` and the batch's number alone, so that
    training resumed from a `checkpoint` gives the same result. One with another `identity` is discarded.
    """
    optimizer = new_optimizer(net, settings)
    state = TrainingState.start(net)
    if checkpoint is not None:
        state = load_checkpoint(checkpoint, net, optimizer, identity) or state
    started, saved = time.monotonic() - state.seconds, time.monotonic()
    progress = progress or Progress()
    progress.begin("MEND", settings.steps, "batch", state.step)
    while state.step < settings.steps and state.step - state.best_step < settings.patience:
        step = state.step
        batch = draw(generator(seed, "mend batch", step))
        state.add(train_step(lm, net, batch, settings, optimizer, step))
        state.step += 1
        state.seconds = time.monotonic() - started
        if state.step % settings.val_interval == 0 or state.step == settings.steps:
            state.look(net, validate(lm, net, development, settings))
            last = state.curve[-1]
            logging.info("%s", {name: round(value, 4) for name, value in last.items()})
            progress.step(loss=f"{last['val_total']:.3f}", success=f"{last['success']:.2f}")
        else:
            progress.step()
        waiting = any(p.grad is not None for p in net.parameters())
        if checkpoint is not None and not waiting and time.monotonic() - saved >= checkpoint_seconds:
            save_checkpoint(checkpoint, net, optimizer, state, identity)
            saved = time.monotonic()
    if not state.curve or not math.isfinite(state.best_total):
        raise ValueError(
            f"training MEND ended without a finite dev loss after {state.step} batches "
            f"({state.skipped} skipped); lower mend.lr ({settings.lr}) or edit_lr ({settings.edit_lr})"
        )
    best = copy.deepcopy(net)
    best.load_state_dict(state.best)
    return best, state.curve


def new_optimizer(net: Hypernetwork, settings: MendTraining) -> torch.optim.Adam:
    """Adam over the networks and the matrices' rates."""
    networks = list(net.networks.parameters())
    rates = settings.lr if settings.edit_lr_lr is None else settings.edit_lr_lr
    return torch.optim.Adam([{"params": networks, "lr": settings.lr}, {"params": [net.rates], "lr": rates}])


def train_step(
    lm: LanguageModel,
    net: Hypernetwork,
    batch: Batch,
    settings: MendTraining,
    optimizer: torch.optim.Adam,
    step: int,
) -> tuple[float, float] | None:
    """Run batch `step` (from 0): its mean losses before, None when its gradient was not finite.

    Such a batch is left out. An update follows where the accumulated batches are due.
    """
    found = losses(lm, net, batch, observe=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = torch.autograd.grad(found.total(settings), parameters)
    sound = all(bool(gradient.isfinite().all()) for gradient in gradients)
    if sound:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            share = gradient / settings.accumulate
            parameter.grad = share if parameter.grad is None else parameter.grad + share
    if due(step, settings) and parameters[0].grad is not None:
        torch.nn.utils.clip_grad_norm_(parameters, settings.grad_clip)
        left = 1.0 - step / settings.steps if settings.decay else 1.0
        full = [group["lr"] for group in optimizer.param_groups]
        for group, lr in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = lr * left
        optimizer.step()
        for group, lr in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = lr
        optimizer.zero_grad(set_to_none=True)
    return (found.edit.mean().item(), found.local.mean().item()) if sound else None


def due(step: int, settings: MendTraining) -> bool:
    """True if an update follows batch number `step`."""
    if settings.first_update == "released":
        return step > 0 and step % settings.accumulate == 0
    return (step + 1) % settings.accumulate == 0


def in_batches(edits: int, size: int) -> Iterator[range]:
    """Consecutive ranges of `size` edits."""
    return (range(start, min(start + size, edits)) for start in range(0, edits, size))
