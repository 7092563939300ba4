"""Fine-tuning of many cases in one batch, each with weights of its own: shared by FT and LocFT-BF.

An update takes some requests of a case; its loss is the mean over them. An update whose loss is below ENOUGH
is skipped, and a case is done after a pass over its requests whose mean loss is below it, as the released
code of both methods has it. Adam counts the updates of each case by itself.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aftershock.editors.contract import EditResult
from aftershock.editors.training_batch import Entry, TrainingBatch, of_cases
from aftershock.lm.edits import Dense, Scale, State, apply_deltas, select
from aftershock.lm.edits.weights import WeightDelta
from aftershock.lm.hooks import checkpointed, last_mlp_at, start_after_layer, with_added
from aftershock.lm.memory import byte_budget, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel

ENOUGH = 1e-2  # constant of the released code
CPU_TOKENS = 512  # tokens trained on together; larger batches are no faster on a CPU

Parameter = tuple[str, str]
"""A module, and "weight" or "bias"."""
Extra = Callable[[Tensor], Tensor]
"""Scores of further tokens at hidden states (..., d), (..., tokens): they take part in the softmax."""
Project = Callable[[Tensor, Tensor], Tensor]
"""Projection of the gradients (n, d_out, d_in) of the cases (n,)."""


def parameter(lm: LanguageModel, key: Parameter) -> Tensor:
    """A view of a parameter of the model: (d_out, d_in) of a matrix, (d,) of a norm or bias."""
    module, part = key
    found = lm.weight(module) if part == "weight" else lm.bias(module)
    if found is None:
        raise ValueError(f"{module} has no bias to train")
    return found


@dataclass(frozen=True)
class Training:
    """Hyperparameters of training; `decay` has an entry for each case."""

    parameters: Sequence[Parameter]
    steps: int
    lr: float
    decay: Sequence[float]
    boxes: Mapping[str, float] = field(default_factory=dict)
    """The largest change of a single weight, by module."""
    extra: Extra | None = None
    project: Mapping[str, Project] = field(default_factory=dict)
    """Projections of gradients by module, applied before decay is added."""
    project_step: bool = False
    """True if the steps that Adam makes of them are projected as well."""

    @property
    def modules(self) -> list[str]:
        """The trained modules."""
        return list(dict.fromkeys(module for module, _ in self.parameters))


@dataclass(frozen=True)
class Schedule:
    """The updates of a pass, and the function that reads their rows.

    updates: called with the number of a pass; for each update the requests of every case, none where a case
    has no more. read: called with rows and the cases that they belong to.
    """

    sizes: Sequence[int]
    updates: Callable[[int], Sequence[Sequence[Sequence[int]]]]
    read: Callable[[Tensor, Tensor], TrainingBatch]


def train(
    lm: LanguageModel,
    training: Training,
    schedule: Schedule,
    state: State,
    checkpoint: bool = False,
    weights: "Weights | None" = None,
) -> EditResult:
    """Train every case until its loss is low or all steps are made; one delta per trained module.

    `weights` are those to train where Adam does not start anew.
    """
    n = len(schedule.sizes)
    weights = weights or Weights(lm, training, n, state, checkpoint)
    first = torch.tensor([0, *schedule.sizes]).cumsum(0)  # the first row of each case
    sizes = torch.tensor(schedule.sizes)
    live = torch.ones(n, dtype=torch.bool)
    losses, steps = torch.zeros(n), torch.zeros(n, dtype=torch.long)
    reasons: list[str | None] = [None] * n
    trace = []
    for epoch in range(training.steps):
        total = torch.zeros(n)
        for update in schedule.updates(epoch):
            chosen = [i for i in range(n) if live[i] and update[i]]
            if not chosen:
                continue
            rows = torch.tensor([int(first[i]) + j for i in chosen for j in update[i]], device=lm.device)
            counts = torch.tensor([len(update[i]) for i in chosen])
            cases = torch.arange(len(chosen)).repeat_interleave(counts).to(lm.device)
            index = torch.tensor(chosen)
            loss, learned = weights.learn(schedule.read(rows, cases), index)
            total[index] += loss * counts
            steps[index] += learned
            trace.append(torch.full((n,), math.nan).index_put((index,), loss))
        losses = torch.where(live, total / sizes, losses)
        for i in (live & ~losses.isfinite()).nonzero()[:, 0].tolist():
            reasons[i] = f"the loss was {losses[i].item()} at step {epoch}"
        live &= losses.isfinite() & (losses >= ENOUGH)
        if not live.any():
            break
    failed = torch.tensor([reason is not None for reason in reasons])
    return EditResult(
        weights.deltas(failed),
        tuple(steps.tolist()),
        tuple(losses.tolist()),
        tuple(reasons),
        diagnostics=({"losses": torch.stack(trace), "norm_constraint": training.boxes},),
    )


class Weights:
    """The changes of the weights of `n` cases in training."""

    def __init__(self, lm: LanguageModel, training: Training, n: int, state: State, checkpoint: bool) -> None:
        self.lm, self.training, self.state, self.checkpoint = lm, training, state, checkpoint
        self.entry = Entry.below(lm, training.modules)
        self.decay = torch.tensor(training.decay, dtype=lm.dtype, device=lm.device)
        self.start = {key: self._before(*key) for key in training.parameters}  # weights before the change
        self.change = {}
        for key in training.parameters:
            self.change[key] = torch.zeros(n, *parameter(lm, key).shape, dtype=lm.dtype, device=lm.device)
        self.views = [{key: change[i] for key, change in self.change.items()} for i in range(n)]
        every = [view for views in self.views for view in views.values()]
        self.adam = torch.optim.Adam(every, lr=training.lr, fused=True)

    def learn(self, batch: TrainingBatch, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Update the cases `chosen` once on a batch; return their losses before, and whether they changed."""
        chosen = chosen.to(self.lm.device)
        everyone = len(chosen) == len(self.views)
        leaves = {
            key: (change if everyone else change[chosen]).detach().requires_grad_()
            for key, change in self.change.items()
        }
        trained = _deltas(leaves)
        state = of_cases(self.state, chosen, len(self.views))
        with case_losses(
            self.lm, batch, self.entry, state, trained, len(chosen), self.checkpoint, self.training.extra
        ) as losses:
            learned = losses.isfinite() & (losses >= ENOUGH)
            if learned.any():
                gradients = torch.autograd.grad(losses[learned].sum(), list(leaves.values()))
        if learned.any():
            self._step(chosen, learned, leaves, gradients)
        for (name, _), change in self.change.items():
            if (box := self.training.boxes.get(name)) is not None:
                change.clamp_(-box, box)
        return losses.detach().float().cpu(), learned.cpu()

    def deltas(self, failed: Tensor) -> State:
        """The changes so far, zero where a case `failed`."""
        return tuple(delta.without(failed) for delta in _deltas(self.change))

    def _before(self, module: str, part: str) -> Tensor:
        """A parameter in the state that training starts from: one for each case, or one for all."""
        own = parameter(self.lm, (module, part))
        if not bool(self.decay.any()):  # only decay asks for it
            return own
        changes = [d for d in self.state if isinstance(d, WeightDelta) and d.module == module]
        parts = [delta.dense() if part == "weight" else delta.bias for delta in changes]
        return own + sum(part for part in parts if part is not None)

    def _step(
        self,
        chosen: Tensor,
        learned: Tensor,
        leaves: Mapping[Parameter, Tensor],
        gradients: Sequence[Tensor],
    ) -> None:
        """Update those `chosen` cases that `learned`; Adam skips parameters without a gradient."""
        self.adam.zero_grad(set_to_none=True)
        project, before = self.training.project, {}
        for key, gradient in zip(leaves, gradients, strict=True):
            if key[0] in project:
                gradient = project[key[0]](gradient, chosen)
            if bool(self.decay.any()):
                start = self.start[key]
                whole = start[chosen] if start.ndim == leaves[key].ndim else start
                decay = self.decay[chosen].view(-1, *[1] * (gradient.ndim - 1))
                gradient = gradient + decay * (whole + leaves[key].detach())
            for row in learned.nonzero()[:, 0].tolist():
                # the fused update walks through memory, so that a transposed gradient would be misread
                self.views[chosen[row]][key].grad = gradient[row].contiguous()
            if self.training.project_step:
                before[key] = self.change[key][chosen].clone()
        self.adam.step()
        for key, start in before.items():
            if key[0] in project:
                self.change[key][chosen] = start + project[key[0]](self.change[key][chosen] - start, chosen)


@contextmanager
def case_losses(
    lm: LanguageModel,
    batch: TrainingBatch,
    entry: Entry,
    state: State,
    trained: Sequence[WeightDelta],
    n_cases: int,
    checkpoint: bool = False,
    extra: Extra | None = None,
) -> Iterator[Tensor]:
    """Yield the mean over a case's rows of the negative log-probability of their targets, (n_cases,).

    The model runs with `state` and the `trained` deltas, from `entry` on. Gradients are taken inside.
    """
    running, above, hidden = batch.running(), list(trained), batch.stream
    if entry.projection:
        assert batch.stream is not None
        assert batch.keys is not None
        (entering,) = (d for d in trained if d.module == lm.projection(entry.after))
        above.remove(entering)
        added = entering.change(batch.keys, batch.cases)
        hidden = with_added(lm, entry.after, batch.stream, batch.written, added)
    with (
        apply_deltas(lm, (*state, *above), running),
        start_after_layer(lm, entry.after, hidden),
        last_mlp_at(lm, batch.read, batch.valid, state),
        checkpointed(lm, entry.after) if checkpoint else nullcontext(),
    ):
        with lm.reduced():
            hidden = lm.run(batch.ids, batch.attention(lm), use_cache=False, **batch.options)
        index = batch.read[..., None].expand(-1, -1, hidden.shape[-1])
        hidden = hidden.gather(1, index)
        logits = lm.logits(hidden)
        if extra is not None:
            logits = torch.cat([logits, extra(hidden)], dim=-1)
        log_p = logits.log_softmax(dim=-1)
        every = torch.arange(len(batch.ids), device=lm.device)[:, None]
        nll = -(log_p[every, batch.slots, batch.tokens] * batch.shares).sum(dim=1)
        counts = torch.bincount(batch.cases, minlength=n_cases)
        yield nll.new_zeros(n_cases).index_add(0, batch.cases, nll) / counts


def _deltas(parts: Mapping[Parameter, Tensor]) -> tuple[Dense | Scale, ...]:
    """The changes of parameters as one delta per module."""
    made: list[Dense | Scale] = []
    for (module, part), weight in parts.items():
        if part == "weight":
            kind = Dense if weight.ndim == 3 else Scale
            made.append(kind(module, weight, parts.get((module, "bias"))))
    return tuple(made)


# --- cases in parts -----------------------------------------------------------------------------------------


def update_cost(
    lm: LanguageModel, trained: int, layers: int, rows: int, width: int, targets: int
) -> tuple[int, int]:
    """Tokens of an update of `rows` rows, and its bytes.

    Bytes are those of `trained` numbers with gradients and Adam's two moments, and of what a backward pass
    through `layers` layers keeps.
    """
    scores = 4 * targets * lm.model.config.vocab_size * lm.dtype.itemsize
    kept = width * token_bytes(lm, layers, width, backward=True)
    return rows * width, 4 * trained * lm.dtype.itemsize + rows * (kept + scores)


def run_cases_in_parts(
    lm: LanguageModel,
    sizes: Sequence[tuple[int, int]],
    state: State,
    run: Callable[[Sequence[int], State, bool], EditResult],
    what: str,
) -> EditResult:
    """Run cases of these `sizes`, (tokens, bytes), as many at a time as memory holds, and join the results.

    `run` gets the numbers of its cases, their state, and whether to compute activations again rather than
    keep them, which a case that does not fit by itself asks for.
    """
    order, budget = list(range(len(sizes))), byte_budget(lm)
    costs = [cost for _, cost in sizes]
    if lm.device.type == "cpu":
        costs = [max(cost, tokens * budget // CPU_TOKENS) for tokens, cost in sizes]
    if max(costs) * len(costs) > budget:  # in several parts, of like lengths
        order.sort(key=sizes.__getitem__)

    def some(part: range, checkpoint: bool = False) -> EditResult:
        chosen = order[part.start : part.stop]
        return run(chosen, select(state, chosen), checkpoint)

    found = run_in_parts([costs[i] for i in order], budget, some, what, lambda part: some(part, True))
    parts = [result for _, result in found]
    if len(parts) == 1:
        return parts[0]
    back = sorted(range(len(order)), key=order.__getitem__)
    whole = tuple(_joined(same) for same in zip(*(part.delta for part in parts), strict=True))
    steps, losses, reasons = (
        tuple(sum((getattr(part, name) for part in parts), ())[i] for i in back)
        for name in ("steps", "losses", "reasons")
    )
    diagnostics = sum((part.diagnostics for part in parts), ())
    return EditResult(select(whole, back), steps, losses, reasons, diagnostics=diagnostics)


def _joined(deltas: Sequence[Dense | Scale]) -> Dense | Scale:
    """Deltas of one module as one, their cases one after the other."""
    biases = [delta.bias for delta in deltas if delta.bias is not None]
    bias = torch.cat(biases) if biases else None
    return type(deltas[0])(deltas[0].module, torch.cat([delta.weight for delta in deltas]), bias)
