"""LoRA: W + (alpha / rank) B A, with A and B trained on the edit and all else frozen (Hu et al., 2022).

Adapters are PEFT's, put around the model's own matrices while a case trains and taken off again, so that the
model is the same object with the same modules before and after. Cases train one after the other: an adapter
belongs to one case, whereas a pass of the engine holds many. The trained factors are the change.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from torch import nn

from aftershock.editors.conflicts import name_conflicts
from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.fine_tuning import case_losses
from aftershock.editors.lora import LoraSettings
from aftershock.editors.sites import SiteEditor
from aftershock.editors.training_batch import Entry, Example, encode_examples, read_below
from aftershock.lm.edits import EMPTY, LowRank, State, select
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import EditRequest
from aftershock.seeds import derive

NAME = "edit"  # of the adapter


class Lora(SiteEditor):
    """LoRA: a delta of the adapter's rank at each adapted matrix."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Edit cases one after the other; every one starts from the same draw of A."""
        name_conflicts(cases)
        alone = [self._train(case, select(state, [i])) for i, case in enumerate(cases)]
        delta = tuple(
            LowRank(same[0].module, torch.cat([d.U for d in same]), torch.cat([d.V for d in same]))
            for same in zip(*(result.delta for result in alone), strict=True)
        )
        steps, losses, reasons, diagnostics = (
            sum((getattr(result, name) for result in alone), ())
            for name in ("steps", "losses", "reasons", "diagnostics")
        )
        return EditResult(delta, steps, losses, reasons, diagnostics=diagnostics)

    def _train(self, case: Sequence[EditRequest], state: State) -> EditResult:
        """Train one case's adapter; `state` is that of the case alone."""
        lm, settings, size = self.lm, self.settings, self.settings.batch_size
        pairs = encode_pairs(lm, [(request.text, request.target_new) for request in case])
        entry = Entry(min(settings.layers) - 1, False)
        batch = read_below(lm, encode_examples(lm, [[Example.in_turn(pair) for pair in pairs]]), entry, state)
        parts = [
            batch.rows(rows, batch.cases[rows])
            for rows in torch.arange(len(case), device=lm.device).split(size)
        ]
        trace: list[float] = []
        reason, steps, mean = None, 0, 0.0
        with adapted(lm, self.modules, settings, derive(self.seed, "lora")) as layers:
            factors = [
                p for layer in layers.values() for p in (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight)
            ]
            adam = torch.optim.Adam(factors, lr=settings.lr, weight_decay=settings.weight_decay)
            for epoch in range(settings.steps):
                total = 0.0
                for part in parts:
                    with case_losses(lm, part, entry, state, (), 1) as (loss,):
                        if loss.isfinite() and loss >= settings.early_stop:
                            gradients = torch.autograd.grad(loss, factors)
                            for factor, gradient in zip(factors, gradients, strict=True):
                                factor.grad = gradient
                            adam.step()
                            steps += 1
                    trace.append(loss.item())
                    total += loss.item() * len(part.ids)
                mean = total / len(case)
                if not torch.tensor(mean).isfinite():
                    reason = f"the loss was {mean} at step {epoch}"
                if reason is not None or mean < settings.early_stop:
                    break
            delta = tuple(self._factors(name, layer) for name, layer in layers.items())
        failed = torch.tensor([reason is not None])
        return EditResult(
            tuple(d.without(failed) for d in delta),
            (steps,),
            (mean,),
            (reason,),
            diagnostics=({"losses": trace},),
        )

    def _factors(self, module: str, layer: nn.Module) -> LowRank:
        A, B = layer.lora_A[NAME].weight.detach(), layer.lora_B[NAME].weight.detach()
        return LowRank(module, A[None].clone(), (layer.scaling[NAME] * B.T)[None].contiguous())


@contextmanager
def adapted(
    lm: LanguageModel, modules: Sequence[str], settings: LoraSettings, seed: int
) -> Iterator[dict[str, nn.Module]]:
    """Context manager: the model with a new adapter around each of `modules`; yields these by name.

    Afterwards every module is the one that was there before, and the model has no trace of PEFT.
    """
    own = {name: lm.model.get_submodule(name) for name in modules}
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(modules),
        lora_dropout=0.0,
        init_lora_weights="gaussian" if settings.init == "gaussian" else True,
        fan_in_fan_out=lm.family.transposed,
    )
    before = set(vars(lm.model))
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            LoraModel(lm.model, config, NAME)
        yield {name: lm.model.get_submodule(name) for name in modules}
    finally:
        for name, module in own.items():
            parent, _, child = name.rpartition(".")
            setattr(lm.model.get_submodule(parent), child, module)
        for name in set(vars(lm.model)) - before:
            delattr(lm.model, name)
