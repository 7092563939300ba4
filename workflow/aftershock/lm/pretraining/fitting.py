"""Fitting a model to rows, in one process or several.

Every batch is cut into parts, a number that the settings name. The gradients of the parts are computed one by
one, by whichever process, and added in their order; then every process changes some of the parameters. These
and the gradients lie in memory that the processes share, and each computes on one thread. So as many
processes as there are cores may take part, up to one for each part, and the bits are always the same.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from aftershock.lm.pretraining.muon import Muon
from aftershock.lm.pretraining.processes import Main, Workers
from aftershock.lm.pretraining.rows import Rows
from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.pretraining.shared_memory import ALIGNMENT, Layout, aligned, map_tensors
from aftershock.process import keep_freed_memory
from aftershock.progress import Progress

WORKER = "aftershock.lm.pretraining.worker"


def new_model(
    architecture: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int
) -> GPT2LMHeadModel:
    """A model of `architecture` with random weights."""
    end = tokenizer.eos_token_id
    config = GPT2Config(
        **{**architecture, "vocab_size": len(tokenizer)},
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def optimizers(model: GPT2LMHeadModel, settings: TrainSettings, share: slice) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else; for a `share` of the parameters.

    With AdamW for all of them a prototype recalled a fifth of its facts after as many tokens.
    """
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
    chosen = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in chosen]
    # from the largest on, so that shares with a step equal to their number cost about the same
    inner, outer = (sorted(some, key=Tensor.numel, reverse=True)[share] for some in (inner, outer))
    return [
        *([Muon(inner, lr=settings.lr, weight_decay=settings.weight_decay)] if inner else []),
        *([_adam(outer, settings)] if outer else []),
    ]


def _adam(parameters: Sequence[Tensor], settings: TrainSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the full learning rate at `step`: a linear rise, then a linear fall to zero."""
    rise = max(1, math.ceil(warmup * steps))
    return max(0.0, min((step + 1) / rise, (steps - step) / max(1, steps - rise)))


def object_loss(model: GPT2LMHeadModel, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the cross-entropy of rows of tokens; `ids` and `weights` are (batch, row_tokens)."""
    mask = torch.ones_like(ids)  # padding comes last in a row and has weight 0
    hidden = model.transformer(ids, attention_mask=mask, use_cache=False).last_hidden_state
    # the last position predicts nothing; cutting it from the logits instead would copy all of them
    logits = model.lm_head(hidden[:, :-1].flatten(0, 1))  # (batch * (row_tokens - 1), vocabulary)
    losses = cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum()


class Partner(Protocol):
    """Protocol of the other processes that take part in training."""

    def meet(self) -> None:
        """Wait until all processes have come to the end of this step."""


@dataclass(frozen=True)
class Share:
    """A process's share of the work, which is dealt out in turns: process `number`, from 0, of `count`."""

    number: int
    count: int

    def of(self, n: int) -> range:
        """The parts, of `n` in all, that this process computes the gradients of."""
        return range(self.number, n, self.count)


def layout_of(model: GPT2LMHeadModel, rows: Rows, parts: int) -> Layout:
    """Layout of the shared memory: rows, parameters, and gradients and loss of each part."""
    size = sum(_room(p) for p in model.parameters())
    return {
        "ids": ("int64", [*rows.ids.shape]),
        "weights": ("float32", [*rows.weights.shape]),
        "parameters": ("float32", [size]),
        "gradients": ("float32", [parts, size]),
        "losses": ("float32", [parts]),
    }


def _room(parameter: Tensor) -> int:
    """Number of entries that a parameter takes in shared memory, where each begins at an aligned address."""
    return aligned(parameter.numel(), ALIGNMENT // parameter.element_size())


def _views(flat: Tensor, model: GPT2LMHeadModel) -> list[Tensor]:
    """The parts of `flat` that belong to the parameters of `model`, each in its shape."""
    parameters = list(model.parameters())
    pieces = flat.split([_room(p) for p in parameters])
    return [piece[: p.numel()].view_as(p) for piece, p in zip(pieces, parameters, strict=True)]


class Fitting:
    """Steps of training in one of the processes."""

    def __init__(
        self, model: GPT2LMHeadModel, memory: Mapping[str, Tensor], settings: TrainSettings, share: Share
    ) -> None:
        """Place the parameters of `model` in the shared `memory`."""
        self.model, self.memory, self.settings, self.share = model, memory, settings, share
        self.parameters = list(model.parameters())
        for parameter, shared in zip(self.parameters, _views(memory["parameters"], model), strict=True):
            parameter.data = shared
        self.gradients = [_views(flat, model) for flat in memory["gradients"]]
        self.steps = math.ceil(len(memory["ids"]) / settings.batch_rows)
        self.optimizers = optimizers(model, settings, slice(share.number, None, share.count))
        mine = {id(p) for o in self.optimizers for group in o.param_groups for p in group["params"]}
        by_parameter = zip(self.parameters, zip(*self.gradients, strict=True), strict=True)
        self.owned = [(p, gradients) for p, gradients in by_parameter if id(p) in mine]
        factor = partial(schedule, steps=self.steps, warmup=settings.warmup)
        self.rates = [LambdaLR(optimizer, factor) for optimizer in self.optimizers]
        model.train()

    def step(self, number: int, partner: Partner) -> float:
        """Take step `number` together; return the loss before, a mean over the weights of the batch.

        A loss that is not finite changes nothing.
        """
        for part in self.share.of(self.settings.parts):
            self._differentiate(number, part)
        partner.meet()
        loss = self.memory["losses"].sum().item()
        if math.isfinite(loss):
            self._update()
        partner.meet()
        return loss

    def _differentiate(self, number: int, part: int) -> None:
        """Write the loss and the gradients of one part of a batch."""
        first, parts = number * self.settings.batch_rows, self.settings.parts
        ids, weights = (
            self.memory[name][first : first + self.settings.batch_rows] for name in ("ids", "weights")
        )
        chosen = slice(len(ids) * part // parts, len(ids) * (part + 1) // parts)
        self.memory["gradients"][part].zero_()
        self.memory["losses"][part] = 0.0
        if chosen.start == chosen.stop:  # the last batch may have fewer rows than parts
            return
        for parameter, gradient in zip(self.parameters, self.gradients[part], strict=True):
            parameter.grad = gradient
        loss = object_loss(self.model, ids[chosen], weights[chosen]) / weights[:, 1:].sum()
        loss.backward()
        self.memory["losses"][part] = loss.detach()

    def _update(self) -> None:
        """Change this process's parameters by the sum of all parts' gradients."""
        for parameter, (total, *others) in self.owned:
            for gradient in others:
                total += gradient
            parameter.grad = total
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.step()
            rate.step()


def fit(
    model: GPT2LMHeadModel,
    rows: Rows,
    settings: TrainSettings,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> list[float]:
    """Train `model` once over `rows`, in order, together with `workers`; return the loss of each step."""
    if workers is None:
        with Workers(WORKER, 0) as nobody:
            return fit(model, rows, settings, progress, nobody)
    count, layout = 1 + workers.count, layout_of(model, rows, settings.parts)
    memory = map_tensors(workers.file, layout)
    memory["ids"].copy_(torch.from_numpy(rows.ids))
    memory["weights"].copy_(torch.from_numpy(rows.weights))
    for parameter, shared in zip(model.parameters(), _views(memory["parameters"], model), strict=True):
        shared.copy_(parameter.detach())
    common = {"layout": layout, "config": model.config.to_dict(), "settings": asdict(settings)}
    workers.send([{**common, "share": [number, count]} for number in range(1, count)])
    progress = progress or Progress()
    losses: list[float] = []
    with _one_thread():
        fitting = Fitting(model, memory, settings, Share(0, count))
        progress.begin("Training", fitting.steps, "batch")
        for step in range(fitting.steps):
            losses.append(fitting.step(step, workers))
            if not math.isfinite(losses[-1]):
                raise ValueError(
                    f"training diverged at step {step} of {fitting.steps}: the loss is {losses[-1]}; "
                    f"lower train.lr ({settings.lr}) or train.adam_lr ({settings.adam_lr}) in the model's "
                    "YAML"
                )
            progress.step(loss=f"{np.mean(losses[-50:]):.3f}")
    for parameter in model.parameters():
        parameter.data, parameter.grad = parameter.detach().clone(), None
    model.eval()
    return losses


def help_fit(started_by: Main) -> None:
    """Take the share of `fit` assigned by the process that started this one."""
    torch.set_num_threads(1)
    keep_freed_memory()
    told = started_by.receive()
    fitting = Fitting(
        GPT2LMHeadModel(GPT2Config.from_dict(told["config"])),
        map_tensors(told["file"], told["layout"]),
        TrainSettings(**told["settings"]),
        Share(*told["share"]),
    )
    for step in range(fitting.steps):
        fitting.step(step, started_by)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Context manager: compute on one thread, since more of them would add in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
