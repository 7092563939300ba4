"""A change that routes prompts about an edit to a second model (SERAC, Mitchell et al., 2022).

Nothing in the model changes. Each case has a cache of edits, as texts. A scope classifier compares every
prompt with the keys of its case's edits; with the most similar one before it, as one text, the prompt goes to
a counterfactual model, which takes the place of the model where the similarity is above one half (a hard
switch), or to the degree of the similarity (a mixture). That is decided once for a prompt, from its own
tokens. Several such changes of one case share one search: what is left out is not found.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from aftershock.lm.edits.delta import BEHIND_LAYERS, Batch, CaseTensors, Delta, register
from aftershock.lm.hooks import batches
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.scope_models import ScopeModels, find_models
from aftershock.lm.outputs import Read
from aftershock.lm.texts.frames import PLAIN

SWITCH = 0.5  # similarity above which a prompt is in scope
TIE = 1e-6  # log-similarities this close are rounding: the same key read in another batch
TOKENS = 4096  # that the counterfactual model reads together


@register
@dataclass(frozen=True)
class Routed(CaseTensors):
    """Edits cached for each of B cases, and the models that answer with them."""

    models: ScopeModels
    texts: Tensor  # (B, n, width), the token ids of each edit's text plus one, 0 behind it; no edit: all 0
    keys: Tensor  # (B, n, d), the classifier's vectors
    ages: Tensor  # (B, n), the number of edits of the case before each
    soft: bool = False
    newest: bool = True
    """True if the last one of equally similar edits counts, else the first."""
    epsilon: float = 0.0
    """Added to the probabilities of a mixture."""

    per_token: ClassVar[bool] = True
    module = "the next token's scores"

    @property
    def first_layer(self) -> int:
        """BEHIND_LAYERS: no layer changes."""
        return BEHIND_LAYERS

    @property
    def present(self) -> Tensor:
        """True where there is an edit, (B, n)."""
        return (self.texts > 0).any(dim=2)

    def tensors(self) -> dict[str, Tensor]:
        """Texts, keys and ages."""
        return {"texts": self.texts, "keys": self.keys, "ages": self.ages}

    def settings(self) -> dict[str, Any]:
        """The models by their hash, and how they are used."""
        named = {name: getattr(self, name) for name in ("soft", "newest", "epsilon")}
        return {"models": self.models.sha256, **named}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> "Routed":
        """The change with these tensors and settings; ValueError where its models are not loaded."""
        return cls(**{**settings, "models": find_models(settings["models"])}, **tensors)

    def to(self, device: torch.device | torch.dtype) -> "Routed":
        """The change on another device, or its keys in another precision."""
        if isinstance(device, torch.dtype):
            return replace(self, keys=self.keys.to(device))
        return self._map(lambda tensor: tensor.to(device))

    def follow(self, earlier: Delta) -> "Routed | None":
        """The edits of `earlier` and these; None for another kind, or other models."""
        if not isinstance(earlier, Routed) or earlier.settings() != self.settings():
            return None
        parts, width = (earlier, self), max(earlier.texts.shape[2], self.texts.shape[2])
        texts = [torch.nn.functional.pad(part.texts, (0, width - part.texts.shape[2])) for part in parts]
        keys, ages = (torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("keys", "ages"))
        return replace(self, texts=torch.cat(texts, dim=1), keys=keys, ages=ages)

    def without(self, cases: Tensor) -> "Routed":
        """The change with no edit in the cases that are true in `cases` (B,)."""
        return replace(self, texts=self.texts.masked_fill(cases.to(self.texts.device)[:, None, None], 0))

    def squared_norm(self) -> Tensor:
        """Zeros (B,), float64: no weight changes."""
        return torch.zeros(len(self), dtype=torch.float64)

    def random_like(self, generators: Sequence[torch.Generator]) -> "Routed":
        """The same number of edits, of equally many random tokens, under random keys of equal norm.

        So the second model answers what happens to lie near such a key, with a text that says nothing.
        """
        size = len(self.models.counterfactual.tokenizer)
        ids, noise = (
            torch.stack([draw(generator) for generator in generators])
            for draw in (
                lambda g: torch.randint(1, size + 1, self.texts.shape[1:], generator=g),
                lambda g: torch.randn(self.keys.shape[1:], generator=g),
            )
        )
        noise = noise.to(self.keys)
        keys = noise * (self.keys.norm(dim=-1) / noise.norm(dim=-1))[..., None]
        return replace(self, texts=ids.to(self.texts).where(self.texts > 0, 0), keys=keys)

    @contextmanager
    def attach(self, lm: LanguageModel, batch: Batch) -> Iterator[None]:
        """Context manager: next-token scores are those of the model that a prompt is routed to."""
        routers = [change for change in lm.output_changes if isinstance(change, Router)]
        same = [router for router in routers if router.caches[0].settings() == self.settings()]
        if same:
            with same[0].holding(self):
                yield
            return
        router = Router(lm, batch, self)
        lm.output_changes.append(router)
        try:
            yield
        finally:
            lm.output_changes.remove(router)


@dataclass(frozen=True)
class Route:
    """The edit that a prompt is most similar to."""

    log_similarity: float
    text: str


class Router:
    """The models of several `Routed` of one state, applied to the rows of one batch."""

    def __init__(self, lm: LanguageModel, batch: Batch, first: Routed) -> None:
        self.lm, self.batch, self.models = lm, batch, first.models
        self.caches = [first]

    @contextmanager
    def holding(self, cache: Routed) -> Iterator[None]:
        """Context manager: adds the edits of `cache` to those that are searched."""
        self.caches.append(cache)
        try:
            yield
        finally:
            self.caches.pop()

    @torch.no_grad()
    def __call__(self, scores: Tensor, read: Read) -> Tensor:
        """`scores` (entries, vocabulary), replaced or mixed where a prompt is routed to an edit."""
        soft = self.caches[0].soft
        routes = [self.routes[row] for row in read.rows]
        chosen = {
            i: route
            for i, route in enumerate(routes)
            if route and (soft or math.exp(route.log_similarity) > SWITCH)
        }
        if not chosen:
            return scores
        mine = Read([read.rows[i] for i in chosen], [read.behind[i] for i in chosen])
        answers = self._answers(mine, [route.text for route in chosen.values()]).to(scores)
        places = torch.tensor(list(chosen), device=scores.device)
        if soft:
            logs = torch.tensor([r.log_similarity for r in chosen.values()], dtype=torch.float64)
            answers = mixture(scores[places], answers, logs.to(scores.device), self.caches[0].epsilon)
        return scores.index_copy(0, places, answers)

    @cached_property
    def prompts(self) -> list[str]:
        """The rows' prompts as text, without what stands around them."""
        ids, ends = self.batch.ids.tolist(), self.batch.prompt_ends.tolist()
        return [prompt_text(self.lm, row[: end + 1]) for row, end in zip(ids, ends, strict=True)]

    @cached_property
    def routes(self) -> list[Route | None]:
        """The edit that each row's prompt is most similar to; None where its case has no edit."""
        texts, cases = self.prompts, self.batch.cases.tolist()
        distinct = list(dict.fromkeys(texts))
        vectors = dict(zip(distinct, self.models.classifier.embed(distinct), strict=True))
        return [self._route(vectors[text], case) for text, case in zip(texts, cases, strict=True)]

    def _route(self, vector: Tensor, case: int) -> Route | None:
        keys, ages, texts = [], [], []
        for cache in self.caches:
            here = cache.present[case]
            keys.append(cache.keys[case][here])
            ages += cache.ages[case][here].tolist()
            texts += cache.texts[case][here].unbind()
        if not texts:
            return None
        logs = self.models.classifier.log_similarity(vector, torch.cat(keys).to(vector)).tolist()
        near = [i for i, found in enumerate(logs) if found >= max(logs) - TIE]
        order = max if self.caches[0].newest else min
        best = order(near, key=lambda i: (ages[i], i))
        ids = texts[best][texts[best] > 0] - 1
        text = self.models.counterfactual.tokenizer.decode(ids, **AS_IT_STANDS)
        return Route(logs[best], text.lstrip(" "))

    def _answers(self, read: Read, edits: Sequence[str]) -> Tensor:
        """The counterfactual model's scores at each entry of `read`, behind its edit, (entries, vocabulary).

        Where edit and prompt are longer than its context, the edit's beginning is left out.
        """
        model, text_of = self.models.counterfactual, dict(zip(read.rows, edits, strict=True))
        asked = [f"{text} {self.prompts[row]}" for row, text in text_of.items()]
        encoded = dict(zip(text_of, model.encode_prompts(asked), strict=True))
        ends = longest(list(zip(read.rows, read.behind, strict=True)))
        texts = sorted(set(ends))
        fitting = [[*encoded[row], *behind][-model.context :] for row, behind in texts]
        places: dict[tuple[int, tuple[int, ...]], list[int]] = {text: [] for text in texts}
        for i, text in enumerate(ends):
            places[text].append(i)
        found = None
        for part in batches([len(ids) for ids in fitting], TOKENS):
            ids, mask = model.pad([fitting[i] for i in part])
            hidden = model.run(ids, mask, use_cache=False)
            entries = [(row, i) for row, number in enumerate(part) for i in places[texts[number]]]
            columns = [
                len(fitting[part[row]]) - 1 - (len(texts[part[row]][1]) - len(read.behind[i]))
                for row, i in entries
            ]
            scores = model.logits(hidden[[row for row, _ in entries], columns])
            found = scores.new_zeros(len(ends), scores.shape[1]) if found is None else found
            found[[i for _, i in entries]] = scores
        return found


AS_IT_STANDS = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}


def prompt_text(lm: LanguageModel, ids: Sequence[int]) -> str:
    """The text of a prompt's tokens, without special tokens in front and without its frame.

    A space that it begins with is left out, since many tokenizers put one there.
    """
    if lm.frame == PLAIN:
        text = lm.tokenizer.decode(ids, **{**AS_IT_STANDS, "skip_special_tokens": True})
        return text.lstrip(" ")
    text = lm.tokenizer.decode(ids, **AS_IT_STANDS)
    before, after = lm.frame.before.strip(), lm.frame.after.strip()
    text = text.partition(before)[2] if before and before in text else text
    return (text.rpartition(after)[0] if after and after in text else text).strip()


def longest(texts: Sequence[tuple[int, tuple[int, ...]]]) -> list[tuple[int, tuple[int, ...]]]:
    """Map each (row, tokens) to a longest text of the list that begins with it."""
    whole: list[tuple[int, tuple[int, ...]]] = []
    held: dict[tuple[int, tuple[int, ...]], tuple[int, tuple[int, ...]]] = {}
    for row, tokens in sorted(set(texts), reverse=True):  # continuations of a text come before it
        last = whole[-1] if whole else (-1, ())
        if last[0] != row or last[1][: len(tokens)] != tokens:
            whole.append((row, tokens))
        held[row, tokens] = whole[-1]
    return [held[text] for text in texts]


def mixture(scores: Tensor, answers: Tensor, log_similarity: Tensor, epsilon: float = 0.0) -> Tensor:
    """log((1 - sim) p + sim p' + epsilon) for p of `scores` and p' of `answers`, both (rows, vocabulary)."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    log_p, log_q = (part.to(wide).log_softmax(dim=-1) for part in (scores, answers))
    log_s = log_similarity.to(wide)[:, None]
    mixed = torch.logaddexp(log_p + (-log_s.expm1()).log(), log_q + log_s)
    return (mixed if epsilon == 0.0 else (mixed.exp() + epsilon).log()).to(scores)
