"""Causal tracing: the layers at which a model retrieves facts (Meng et al., 2022, section 2).

The subject's embeddings are blurred until the model no longer says the object; then one state of the clean
run is put back, at the subject's last token. How much of the object's probability returns is the indirect
effect of that state. The states are the output of a layer, and the outputs of a window of MLPs.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import Module

from aftershock.lm.hooks import batches, record_activations, start_after_layer
from aftershock.lm.model import Hook, LanguageModel
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import locate_pairs
from aftershock.progress import Progress
from aftershock.prompts import fill, split
from aftershock.requests import Query
from aftershock.seeds import derive

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Fact:
    """A prompt with a slot for its subject, the subject, and the object that should follow."""

    prompt: str
    subject: str
    object: str


ABOUT_SUBJECT = ("e1_true", "same_subject")
"""Roles of the probes that ask for true facts of an edited subject."""


def known_facts(
    lm: LanguageModel, probes: pd.DataFrame, prompts: pd.DataFrame, limit: int
) -> list[tuple[int, Fact]]:
    """Up to `limit` true facts about edited subjects that the model gives, each with its first case.

    `probes` are PROBES rows, `prompts` PROMPTS rows; a fact is asked for with its edit prompt.
    """
    templates = prompts[prompts["prompt_id"] == 0].set_index("relation_id")["template"]
    asked: dict[Fact, int] = {}
    for row in probes[probes["role"].isin(ABOUT_SUBJECT)].sort_values("case_id").itertuples(index=False):
        asked.setdefault(Fact(templates[row.relation_id], row.subject, row.object), row.case_id)
    scores = score(lm, [Query(fill(fact.prompt, fact.subject), fact.object) for fact in asked])
    known = [(case, fact) for (fact, case), s in zip(asked.items(), scores, strict=True) if s.argmax_match]
    return known[:limit]


@dataclass(frozen=True)
class Traces:
    """Probabilities of the whole object, mean over the noise samples, float64; F facts and L layers."""

    clean: Tensor  # (F,)
    corrupted: Tensor  # (F,)
    hidden: Tensor  # (F, L), with the output of one layer restored
    mlp: Tensor  # (F, L), with the outputs of the MLPs of `windows` restored
    windows: tuple[range, ...]

    def indirect_effects(self) -> dict[str, Tensor]:
        """Gain in probability from restoring each state, (F, L) each: `hidden` and `mlp`."""
        return {name: getattr(self, name) - self.corrupted[:, None] for name in ("hidden", "mlp")}


@dataclass(frozen=True)
class _Row:
    """A fact as tokens: all but its object's last token."""

    ids: tuple[int, ...]
    subject: range
    target: tuple[int, ...]

    @property
    def read(self) -> range:
        """Positions at which the object's tokens are predicted."""
        return range(len(self.ids) - len(self.target), len(self.ids))


@torch.no_grad()
def trace(
    lm: LanguageModel,
    facts: Sequence[Fact],
    samples: int = 10,
    noise: float = 3.0,
    window: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Traces:
    """The Traces of `facts` in all layers, each over `samples` draws of noise.

    The noise is normal with a standard deviation of `noise` times that of all embeddings of the facts'
    subjects, and depends on `seed` and the fact alone. The MLPs restored around layer l are those of
    l - window // 2 and the window - 1 after it, as far as they exist (Meng et al. take 10 of GPT2-XL's 48).
    Facts, samples and positions go through a layer together; below a restored state nothing is computed
    again. ValueError when there is no fact, or one does not fit the model.
    """
    if not facts:
        raise ValueError("causal tracing needs facts that the model knows, but there are none")
    rows = _rows(lm, facts)
    spread = noise * _embedding_spread(lm, rows)
    windows = tuple(
        range(max(0, layer - window // 2), min(lm.n_layers, layer - window // 2 + window))
        for layer in range(lm.n_layers)
    )
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    found: list[Mapping[str, Tensor]] = []
    progress = progress or Progress()
    progress.begin("Tracing", len(rows), "fact")
    for chosen in batches([len(rows[i].ids) * samples for i in order], BATCH_TOKENS):
        some = [order[i] for i in chosen]
        blurs = [_blur(lm, rows[i], facts[i], spread, samples, seed) for i in some]
        found.append(_trace(lm, [rows[i] for i in some], torch.cat(blurs), samples, windows))
        progress.step(len(some))
    back = torch.argsort(torch.tensor(order))
    parts = {name: torch.cat([part[name] for part in found])[back] for name in found[0]}
    return Traces(**parts, windows=windows)


def _rows(lm: LanguageModel, facts: Sequence[Fact]) -> list[_Row]:
    found = []
    asked = [(fact.prompt, fact.subject, fact.object) for fact in facts]
    for fact, (located, target) in zip(facts, locate_pairs(lm, asked), strict=True):
        ((_, spans),) = lm.read_prompts([(fill(fact.prompt, fact.subject), None)])
        start = len(lm.frame.before) + len(split(fact.prompt)[0])
        first = next(i for i, (_, end) in enumerate(spans) if end > start)
        found.append(_Row((*located.ids, *target[:-1]), range(first, located.subject + 1), target))
    return found


def _embedding_spread(lm: LanguageModel, rows: Sequence[_Row]) -> float:
    """Standard deviation of all numbers in the embeddings of the facts' subjects."""
    ids = [row.ids[i] for row in rows for i in row.subject]
    return lm.model.get_input_embeddings()(torch.tensor(ids, device=lm.device)).double().std().item()


def _blur(lm: LanguageModel, row: _Row, fact: Fact, spread: float, samples: int, seed: int) -> Tensor:
    """The noise of one fact's subject, (samples * subject tokens, d_model): drawn on the CPU."""
    generator = torch.Generator().manual_seed(derive(seed, "tracing", fact.prompt, fact.subject))
    drawn = torch.randn(samples * len(row.subject), lm.d_model, generator=generator)
    return (spread * drawn.double()).to(lm.device, lm.dtype)


def _trace(
    lm: LanguageModel, facts: Sequence[_Row], blur: Tensor, samples: int, windows: Sequence[range]
) -> dict[str, Tensor]:
    """The probabilities of some facts, by the name of a Traces field."""
    layers = range(lm.n_layers)
    streams, mlps = ([name(layer) for layer in layers] for name in (lm.layer, lm.mlp))
    ids, mask = lm.pad([row.ids for row in facts])
    with record_activations(lm, outputs=[*streams, *mlps]) as seen:
        hidden = lm.run(ids, mask, use_cache=False)
    every = torch.arange(len(facts), device=lm.device)
    last = torch.tensor([row.subject[-1] for row in facts], device=lm.device)
    clean = {
        name: seen["out", name].to(lm.device)[every, last].repeat_interleave(samples, 0)
        for name in [*streams, *mlps]
    }
    found = {"clean": _probabilities(lm, hidden, facts)}

    rows = [row for row in facts for _ in range(samples)]
    ids, mask, last = (tensor.repeat_interleave(samples, 0) for tensor in (ids, mask, last))
    every = torch.arange(len(rows), device=lm.device)
    added = torch.zeros(*ids.shape, lm.d_model, device=lm.device, dtype=lm.dtype)
    place = [(i, at) for i, row in enumerate(rows) for at in row.subject]
    added[tuple(torch.tensor(place, device=lm.device).T)] = blur

    def run() -> Tensor:
        hidden = lm.run(ids, mask, use_cache=False)
        return _probabilities(lm, hidden, rows).view(len(facts), samples).mean(dim=1)

    with _added(lm, added):
        with record_activations(lm, outputs=streams) as blurred:
            found["corrupted"] = run()
        hidden_effects, mlp_effects = [], []
        for layer, restored in zip(layers, windows, strict=True):
            stream = blurred["out", streams[layer]].to(lm.device, copy=True)
            stream[every, last] = clean[streams[layer]]
            with start_after_layer(lm, layer, stream):
                hidden_effects.append(run())
            before = blurred["out", streams[restored[0] - 1]] if restored[0] else None
            put = {mlps[i]: clean[mlps[i]] for i in restored}
            with start_after_layer(lm, restored[0] - 1, before), _put(lm, put, every, last):
                mlp_effects.append(run())
    found["hidden"], found["mlp"] = (torch.stack(e, dim=1) for e in (hidden_effects, mlp_effects))
    return found


def _probabilities(lm: LanguageModel, hidden: Tensor, rows: Sequence[_Row]) -> Tensor:
    """Each row's probability of its whole target, (rows,) float64 on the CPU."""
    place = torch.tensor([(i, at) for i, row in enumerate(rows) for at in row.read], device=lm.device)
    tokens = torch.tensor([token for row in rows for token in row.target], device=lm.device)
    logits = lm.logits(hidden[place[:, 0], place[:, 1]])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_p = logits.log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0].double()
    total = torch.zeros(len(rows), dtype=torch.float64, device=lm.device)
    return total.index_add(0, place[:, 0], log_p).exp().cpu()


@contextmanager
def _added(lm: LanguageModel, noise: Tensor) -> Iterator[None]:
    """Context manager: adds `noise` (batch, seq, d_model) to the input embeddings."""
    handle = lm.model.get_input_embeddings().register_forward_hook(lambda _, args, output: output + noise)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _put(lm: LanguageModel, outputs: Mapping[str, Tensor], rows: Tensor, at: Tensor) -> Iterator[None]:
    """Context manager: modules output `outputs` (batch, d_model) at position `at` of each row."""

    def putter(value: Tensor) -> Hook:
        def hook(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            output = output.clone()
            output[rows.to(output.device), at.to(output.device)] = value.to(output.device)
            return output

        return hook

    with ExitStack() as stack:
        for name, value in outputs.items():
            handle = lm.model.get_submodule(name).register_forward_hook(putter(value))
            stack.callback(handle.remove)
        yield
