"""FT: fine-tuning MLP output projections on the edit alone, optionally within a box around the old weights.

The released code (`objective: prompt_last`) reads all tokens of a target at the prompt's last position, so
that only the first can be learned; `target_new` reads each where it belongs. Both train weight and bias with
Adam, skip a step whose loss is below 0.01, and stop after a pass over the requests whose mean loss is below
it.

With `target_ids: released` as well, `prompt_last` takes the released code's targets: all that the tokenizer
makes of a target, a token that begins texts included, padded to the longest of the batch. Of these it leaves
out no more than the token for what is unknown, so that padding is trained wherever that is another token.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property

import torch
from torch import Tensor

from aftershock.editors.contract import Editor, EditResult, Memory
from aftershock.editors.ft import BOX_SHARE, FtSettings
from aftershock.editors.ft.batch import TrainingBatch, read_batch
from aftershock.lm.edits import EMPTY, Batch, Dense, State, apply_deltas, select
from aftershock.lm.edits.weights import WeightDelta
from aftershock.lm.hooks import checkpointed, last_mlp_at, start_after_layer, with_added
from aftershock.lm.memory import byte_budget, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.tokens import encode_pairs
from aftershock.requests import EditRequest

ENOUGH = 1e-2  # constant of the released code
CPU_TOKENS = 512  # that are trained on together; more gain a CPU nothing


class Ft(Editor):
    """Cases train side by side, each with weights of its own."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """One dense delta per layer."""

        sizes = [self._size(case) for case in cases]  # tokens and bytes
        order, budget = list(range(len(cases))), byte_budget(self.lm)
        costs = [cost for _, cost in sizes]
        if self.lm.device.type == "cpu":
            costs = [max(cost, tokens * budget // CPU_TOKENS) for tokens, cost in sizes]
        if max(costs) * len(costs) > budget:  # in several parts, of like lengths
            order.sort(key=sizes.__getitem__)

        def train(part: range, checkpoint: bool = False) -> EditResult:
            chosen = order[part.start : part.stop]
            return self._train([cases[i] for i in chosen], select(state, chosen), checkpoint)

        found = run_in_parts(
            [costs[i] for i in order], budget, train, "fine-tuning", lambda part: train(part, checkpoint=True)
        )
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

    @cached_property
    def boxes(self) -> dict[str, float]:
        """The largest change of a single weight of each trained matrix, and of its bias; none without one."""
        box, names = self.settings.norm_constraint, map(self.lm.projection, self.settings.layers)
        if box is None:
            return {}
        if box != "auto":
            return dict.fromkeys(names, box)
        return {name: BOX_SHARE * float(self.lm.weight(name).square().mean().sqrt()) for name in names}

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """The box by layer, where it is measured."""
        if self.settings.norm_constraint != "auto":
            return {}
        return {"norm_constraint": {self.lm.layer_of(name): box for name, box in self.boxes.items()}}

    @property
    def case_bytes(self) -> int:
        """A whole matrix for each layer."""
        sizes = [self.lm.weight(self.lm.projection(layer)).numel() for layer in self.settings.layers]
        return sum(sizes) * self.lm.dtype.itemsize

    def _size(self, case: Sequence[EditRequest]) -> tuple[int, int]:
        """Tokens of an update; bytes of weights, gradients, Adam's moments and what a backward pass keeps."""
        rows = min(len(case), self.settings.batch_size)
        pairs = encode_pairs(self.lm, [(request.text, request.target_new) for request in case])
        width = max(len(pair.prompt) + len(pair.target) - 1 for pair in pairs)
        layers = self.lm.n_layers - min(self.settings.layers)
        run = width * token_bytes(self.lm, layers, width, backward=True)
        scores = 4 * max(len(pair.target) for pair in pairs) * self.lm.model.config.vocab_size
        return rows * width, 4 * self.case_bytes + rows * (run + scores * self.lm.dtype.itemsize)

    def _train(self, cases: Sequence[Sequence[EditRequest]], state: State, checkpoint: bool) -> EditResult:
        settings, n = self.settings, len(cases)
        weights = _Weights(self.lm, settings, self.boxes, list(map(len, cases)), state, checkpoint)
        starts = range(0, max(map(len, cases)), settings.batch_size)
        batches = [
            read_batch(self.lm, [c[i : i + settings.batch_size] for c in cases], settings, state)
            for i in starts
        ]
        requests = sum(batch.requests for batch in batches)
        live = torch.ones(n, dtype=torch.bool)
        losses, steps = torch.zeros(n), torch.zeros(n, dtype=torch.long)
        reasons: list[str | None] = [None] * n
        trace = []
        for epoch in range(settings.steps):
            total = torch.zeros(n)
            for batch in batches:
                chosen = (live & (batch.requests > 0)).nonzero()[:, 0]
                if not len(chosen):
                    continue
                loss, learned = weights.learn(batch, chosen)
                total[chosen] += loss * batch.requests[chosen]
                steps[chosen] += learned
                trace.append(torch.full((n,), math.nan).index_put((chosen,), loss))
            losses = torch.where(live, total / requests, losses)
            for i in (live & ~losses.isfinite()).nonzero()[:, 0].tolist():
                reasons[i] = f"the loss was {losses[i].item()} at step {epoch}"
            live &= losses.isfinite() & (losses >= ENOUGH)
            if not live.any():
                break
        failed = torch.tensor([reason is not None for reason in reasons])
        diagnostics = ({"losses": torch.stack(trace), "norm_constraint": self.boxes},)
        return EditResult(
            weights.deltas(failed),
            tuple(steps.tolist()),
            tuple(losses.tolist()),
            tuple(reasons),
            diagnostics=diagnostics,
        )


class _Weights:
    """The weights' changes of cases of these sizes in training; Adam counts the updates of each by itself."""

    def __init__(
        self,
        lm: LanguageModel,
        settings: FtSettings,
        boxes: Mapping[str, float],
        sizes: Sequence[int],
        state: State,
        checkpoint: bool,
    ) -> None:
        self.lm, self.settings, self.state, self.checkpoint = lm, settings, state, checkpoint
        self.boxes = boxes
        n, decay = len(sizes), [settings.weight_decay] * len(sizes)
        if settings.wd_power_law is not None:
            a, b = settings.wd_power_law
            decay = [size**a * math.exp(b) for size in sizes]
        self.decay = torch.tensor(decay, dtype=lm.dtype, device=lm.device)
        self.change: dict[tuple[str, str], Tensor] = {}
        self.start: dict[tuple[str, str], Tensor] = {}  # what the change is added to
        for layer in sorted(settings.layers):
            name = lm.projection(layer)
            before = [delta for delta in state if isinstance(delta, WeightDelta) and delta.module == name]
            self.start[name, "weight"] = lm.weight(name) + sum(delta.dense() for delta in before)
            if (bias := lm.bias(name)) is not None:
                changes = [change for d in before if (change := d.bias) is not None]
                self.start[name, "bias"] = bias + sum(changes)
        for key, start in self.start.items():
            shape = start.shape[-1:] if key[1] == "bias" else start.shape[-2:]  # without the axis of cases
            self.change[key] = torch.zeros(n, *shape, dtype=lm.dtype, device=lm.device)
        self.views = [{key: change[i] for key, change in self.change.items()} for i in range(n)]
        every = [view for views in self.views for view in views.values()]
        self.adam = torch.optim.Adam(every, lr=settings.lr, fused=True)

    def learn(self, batch: TrainingBatch, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Train the cases `chosen` on a batch, once: their losses before, and whether they changed."""
        chosen = chosen.to(self.lm.device)
        everyone = len(chosen) == len(self.views)
        leaves = {
            key: (change if everyone else change[chosen]).detach().requires_grad_()
            for key, change in self.change.items()
        }
        with self._losses(batch, chosen, leaves) as losses:
            learned = losses.isfinite() & (losses >= ENOUGH)
            if learned.any():
                gradients = torch.autograd.grad(losses[learned].sum(), list(leaves.values()))
        if learned.any():
            self._step(chosen, learned, leaves, gradients)
        for (name, _), change in self.change.items():
            if (box := self.boxes.get(name)) is not None:
                change.clamp_(-box, box)
        return losses.detach().float().cpu(), learned.cpu()

    def _step(
        self,
        chosen: Tensor,
        learned: Tensor,
        leaves: dict[tuple[str, str], Tensor],
        gradients: Sequence[Tensor],
    ) -> None:
        """One update of those of the `chosen` cases that `learned`; Adam passes over what has no gradient."""
        self.adam.zero_grad(set_to_none=True)
        for key, gradient in zip(leaves, gradients, strict=True):
            if bool(self.decay.any()):
                start = self.start[key]
                whole = start[chosen] if start.ndim == leaves[key].ndim else start
                decay = self.decay[chosen].view(-1, *[1] * (gradient.ndim - 1))
                gradient = gradient + decay * (whole + leaves[key].detach())
            for row in learned.nonzero()[:, 0].tolist():
                # the fused update walks through memory, so that a transposed gradient would be misread
                self.views[chosen[row]][key].grad = gradient[row].contiguous()
        self.adam.step()

    @contextmanager
    def _losses(
        self, batch: TrainingBatch, chosen: Tensor, leaves: dict[tuple[str, str], Tensor]
    ) -> Iterator[Tensor]:
        """Mean over a case's rows of the mean negative log-probability of their target tokens, (chosen,)."""
        place = torch.full((len(self.views),), -1, device=self.lm.device)
        place[chosen] = torch.arange(len(chosen), device=self.lm.device)
        rows = (place[batch.cases] >= 0).nonzero()[:, 0]
        cases = place[batch.cases[rows]]
        trained = tuple(
            Dense(name, weight, leaves.get((name, "bias")))
            for (name, part), weight in leaves.items()
            if part == "weight"
        )
        first = min(self.settings.layers)
        (entering,), above = (
            [d for d in trained if (d.module == self.lm.projection(first)) is here] for here in (True, False)
        )
        written = None if batch.written is None else batch.written[rows]
        added = entering.change(batch.keys[rows], cases)
        hidden = with_added(self.lm, first, batch.stream[rows], written, added)
        running = Batch(batch.ids[rows], cases, batch.read[rows, 0])
        with (
            apply_deltas(self.lm, (*select(self.state, chosen), *above), running),
            start_after_layer(self.lm, first, hidden),
            last_mlp_at(self.lm, batch.read[rows], batch.valid[rows]),
            checkpointed(self.lm, first) if self.checkpoint else nullcontext(),
        ):
            with self.lm.reduced():
                hidden = self.lm.run(batch.ids[rows], batch.mask[rows], use_cache=False)
            index = batch.read[rows][..., None].expand(-1, -1, hidden.shape[-1])
            log_p = self.lm.logits(hidden.gather(1, index)).log_softmax(dim=-1)
            every = torch.arange(len(rows), device=self.lm.device)[:, None]
            found = log_p[every, batch.slots[rows], batch.tokens[rows]]
            nll = -(found * batch.shares[rows]).sum(dim=1)
            counts = torch.bincount(cases, minlength=len(chosen))
            yield nll.new_zeros(len(chosen)).index_add(0, cases, nll) / counts

    def deltas(self, failed: Tensor) -> State:
        """The changes so far, zero where a case `failed`."""
        return tuple(
            Dense(name, weight, self.change.get((name, "bias"))).without(failed)
            for (name, part), weight in self.change.items()
            if part == "weight"
        )


def _joined(deltas: Sequence[Dense]) -> Dense:
    """Deltas of one module as one, their cases one after the other."""
    biases = [delta.bias for delta in deltas if delta.bias is not None]
    bias = torch.cat(biases) if biases else None
    return Dense(deltas[0].module, torch.cat([delta.weight for delta in deltas]), bias)
