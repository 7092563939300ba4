"""Kinds of deltas that are no changes of weights, as small as they can be, and some states of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aftershock.lm.edits import Batch, CaseTensors, PromptDecision, Rows, State, register
from aftershock.lm.model import LanguageModel
from obvious import hooked
from tiny import NAMES, changed_outputs, dense, low_rank


@register
@dataclass(frozen=True)
class Nudge(CaseTensors):
    """Adds a vector to what a module puts out, in all of a row whose prompt contains a certain token."""

    module: str
    vector: Tensor  # (B, d)
    token: Tensor  # (B,), -1 for no token

    @contextmanager
    def attach(self, lm: LanguageModel, batch: Batch) -> Iterator[None]:
        here = ((batch.ids == self.token[batch.cases][:, None]) & batch.in_prompt).any(dim=1)
        added = (self.vector[batch.cases] * here[:, None])[:, None]
        with changed_outputs(lm, {self.module: lambda output: output + added}):
            yield

    def without(self, cases: Tensor) -> "Nudge":
        return replace(self, token=self.token.masked_fill(cases, -1))


@register
@dataclass(frozen=True)
class Router(CaseTensors):
    """Adds a vector to what a module puts out from the prompt's end on, where its input there has a sign."""

    module: str
    vector: Tensor  # (B, d_out)
    direction: Tensor  # (B, d_in)

    @contextmanager
    def attach(self, lm: LanguageModel, batch: Batch) -> Iterator[None]:
        fires = PromptDecision(batch, lambda x: (x * self.direction[batch.cases]).sum(dim=1) > 0)
        seen = []

        def hook(module, args, output):
            added = self.vector[batch.cases] * fires(args[0])[:, None]
            columns = torch.arange(output.shape[1])
            behind = columns >= batch.prompt_columns[:, None] if not seen else torch.ones(1, output.shape[1])
            seen.append(True)
            return output + added[:, None] * behind[..., None]

        with hooked(lm.model, {self.module: hook}):
            yield

    def without(self, cases: Tensor) -> "Router":
        return replace(self, vector=self.vector.masked_fill(cases[:, None], 0.0))


@register
@dataclass(frozen=True)
class Preface(CaseTensors):
    """Puts a sentence before the prompts that contain a name."""

    sentences: tuple[str, ...]
    name_of: tuple[str, ...]
    module = "no module"

    def __len__(self) -> int:
        return len(self.sentences)

    def rewrite(self, lm: LanguageModel, prompts: Sequence[str], cases: Sequence[int]) -> list[str]:
        return [
            (self.sentences[case] if self.name_of[case] in prompt else "") + prompt
            for prompt, case in zip(prompts, cases, strict=True)
        ]

    def select(self, indices) -> "Preface":
        chosen = [int(i) for i in indices]
        return Preface(*(tuple(values[i] for i in chosen) for values in (self.sentences, self.name_of)))


def nudge(lm: LanguageModel, module: str, seed: int = 0) -> Nudge:
    """Three cases, of which the first two react to the first token of a name."""
    g = torch.Generator().manual_seed(seed)
    tokens = [lm.encode([name])[0][0] for name in NAMES[:2]]
    return Nudge(module, torch.randn(3, lm.d_model, generator=g, dtype=lm.dtype), torch.tensor([*tokens, -1]))


def router(lm: LanguageModel, layer: int, seed: int = 3) -> Router:
    """Three cases at a layer's projection."""
    d_out, d_in = lm.weight(lm.projection(layer)).shape
    g = torch.Generator().manual_seed(seed)
    made = (torch.randn(3, width, generator=g, dtype=lm.dtype) for width in (d_out, d_in))
    return Router(lm.projection(layer), *made)


def adapters(lm: LanguageModel) -> dict[str, State]:
    """States with deltas that are no weights: in layers, in the last MLP, at embeddings, and in context."""
    last = lm.n_layers - 1
    embeddings = next(name for name, m in lm.model.named_modules() if m is lm.model.get_input_embeddings())
    preface = Preface(("Ada Vex lives in Oslo. ", "", "Rome is old. "), ("Ada", "Bruno", "r"))
    return {
        "layer": (nudge(lm, lm.layer(1)),),
        "last mlp": (nudge(lm, lm.mlp(last)),),
        "embeddings": (nudge(lm, embeddings),),
        "one router": (router(lm, 1),),
        "router": (low_rank(lm, 0, 3), router(lm, 1)),
        "router in the last mlp": (router(lm, last), dense(lm, 1, 3)),
        "context": (preface,),
        "context and more": (preface, low_rank(lm, 1, 3), router(lm, 2)),
        "weights": (low_rank(lm, 2, 3),),
    }


def rows(lm: LanguageModel, layer: int) -> Rows:
    """Three cases with three neurons each, one of them given twice in the first case."""
    d_out, d_in = lm.weight(lm.projection(layer)).shape
    g = torch.Generator().manual_seed(8)
    indices = torch.tensor([[4, 4, 1], [0, d_in - 1, 2], [3, 5, 7]])
    return Rows(lm.projection(layer), indices, torch.randn(3, 3, d_out, generator=g, dtype=lm.dtype), d_in)
