"""Slow, obvious code: whole texts one by one, hooks that add, torch's Adam; and a value optimised with it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, takewhile
from typing import Any

import pytest
import torch

from aftershock.lm.edits import EMPTY, State
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation import values
from aftershock.lm.optimisation.objective import Objective
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.prompts import fill
from aftershock.requests import EditRequest, Query
from tiny import written


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The norm of a difference, relative to what is wanted."""
    return float((found - wanted).norm() / wanted.norm())


# --- texts one by one --------------------------------------------------------------------------------------
@contextmanager
def hooked(model: torch.nn.Module, hooks: Mapping[str, Callable]) -> Iterator[None]:
    """Inside, modules of a model have forward hooks."""
    handles = [model.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def log_probs(model: torch.nn.Module, ids: Sequence[int], hooks: Mapping[str, Callable] | None = None):
    """Log-probabilities after every token of one text, (seq, vocabulary), with hooks on modules."""
    with hooked(model, hooks or {}):
        return model(input_ids=torch.tensor([list(ids)])).logits[0].log_softmax(-1)


def of_target(log_p: torch.Tensor, pair: Pair) -> torch.Tensor:
    """Log-probabilities of a target's tokens, of those after every token of its text."""
    start = len(pair.prompt) - 1
    return log_p[range(start, start + len(pair.target)), list(pair.target)]


def check_scores(lm: LanguageModel, queries: Sequence[Query], state: State, passed: Callable, atol: float):
    """Hold scores in a state against `passed`(query, pair), by which an edit acts on some of the prompts.

    That is log-probabilities after every token of the query's text alone, and whether the edit acts.
    """
    pairs, acting = encode_pairs(lm, [(query.prompt, query.target) for query in queries]), 0
    for query, pair, found in zip(queries, pairs, score(lm, queries, state), strict=True):
        log_p, acts = passed(query, pair)
        assert found.token_logprobs == pytest.approx(of_target(log_p, pair).tolist(), abs=atol), query
        acting += bool(acts)
    assert 0 < acting < len(queries)


def likeliest(lm: LanguageModel, prompt: Sequence[int], n: int, following: Callable) -> str:
    """The continuation of a prompt by the likeliest token each time, by log-probabilities after some ids."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(following(ids)[-1].argmax()))
    return lm.tokenizer.decode(list(takewhile(lambda t: t != lm.tokenizer.eos_token_id, ids[len(prompt) :])))


# --- training ----------------------------------------------------------------------------------------------
def train(
    parameters: Iterable[torch.Tensor],
    epochs: Iterable[Sequence[Sequence[Any]]],
    loss_of: Callable[[Sequence[Any]], torch.Tensor],
    enough: float,
    **options: float,
) -> list[float]:
    """The losses of all batches of some epochs, after each of which Adam takes a step.

    Batches of a low loss bring no step, and an epoch of a low mean loss is the last one.
    """
    adam, losses = torch.optim.Adam(parameters, **options), []
    for epoch in epochs:
        total = 0.0
        for batch in epoch:
            loss = loss_of(batch)
            losses.append(loss.item())
            total += loss.item() * len(batch) / sum(map(len, epoch))
            if loss.item() >= enough:
                adam.zero_grad()
                loss.backward()
                adam.step()
        if total < enough:
            break
    return losses


def in_batches(some: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Parts of a size, in order."""
    return [some[start : start + size] for start in range(0, len(some), size)]


# --- a value -----------------------------------------------------------------------------------------------


def sites(lm: LanguageModel, layer: int, site: str) -> list[str]:
    """The modules whose outputs a value is of."""
    attention = lm.attention_projection(layer).rpartition(".")[0]
    return {"mlp": [lm.mlp(layer)], "layer": [lm.layer(layer)], "both": [attention, lm.mlp(layer)]}[site]


def value_texts(
    lm: LanguageModel, request: EditRequest, contexts: Sequence[str]
) -> list[tuple[list[int], int]]:
    """Tokens and subject of each text: the prompt after every context with the target, then "{} is a"."""
    (target,) = lm.encode_targets([request.target_new])
    prompts = [fill(fill(context, request.prompt), request.subject) for context in contexts]
    texts = [(lm.encode([p])[0] + target[:-1], p, p.index(request.subject)) for p in prompts]
    essence = fill("{} is a", request.subject)
    texts.append((lm.encode([essence])[0], essence, 0))
    found = []
    for ids, text, start in texts:
        end = start + len(request.subject)
        spans = lm.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        found.append((ids, max(i for i, (first, last) in enumerate(spans) if first < end and last > first)))
    return found


def moved_log_probs(
    lm: LanguageModel,
    ids: Sequence[int],
    at: int,
    changes: Mapping[str, torch.Tensor],
    watched: Sequence[str],
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Log-probabilities after every token with `changes` of outputs at one.

    Also what these outputs were there, and what the modules of `watched` put out there.
    """
    seen, streams = [], []

    def watch(module, args, output):
        streams.append((output[0] if isinstance(output, tuple) else output)[0, at])

    def adder(change):
        def add(module, args, output):
            hidden = output[0] if isinstance(output, tuple) else output
            seen.append(hidden[0, at].detach())
            hidden = hidden.clone()
            hidden[0, at] += change
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return add

    hooks = {name: adder(x) for name, x in changes.items()} | dict.fromkeys(watched, watch)
    return log_probs(lm.model, ids, hooks), seen, streams


def obvious_value(
    lm: LanguageModel,
    request: EditRequest,
    contexts: Sequence[str],
    layer: int,
    site: str,
    settings: Mapping[str, float],
    stop: Callable[[list[torch.Tensor], list[int]], bool] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """v0, delta and the losses of one value; of "both" sites, v0 and delta are (2, d).

    `stop` is asked at each step, with what predicts the target's tokens after each context, (T, vocabulary).
    """
    (target,) = lm.encode_targets([request.target_new])
    modules, texts = sites(lm, layer, site), value_texts(lm, request, contexts)
    watched = [lm.layer(layer + 1 + i) for i in range(settings.get("context_layers", 0))]
    deltas = [torch.zeros(lm.d_model, dtype=lm.dtype, requires_grad=True) for _ in modules]
    adam = torch.optim.Adam(deltas, lr=settings["lr"])
    losses, v0, p0, eased = [], None, None, False
    for step in range(settings["steps"]):
        changes = dict(zip(modules, deltas, strict=True))
        made = [moved_log_probs(lm, ids, at, changes, watched) for ids, at in texts]
        outputs, seen, streams = zip(*made, strict=True)
        v0 = seen[0] if v0 is None else v0
        said = [log_p[-len(target) :] for log_p in outputs[:-1]]
        nll = -sum(log_p[t, k] for log_p in said for t, k in enumerate(target)) / len(target) / len(contexts)
        log_p = outputs[-1][texts[-1][1]]
        p0 = log_p.detach() if p0 is None else p0
        kl = (log_p.exp() * (log_p - p0)).sum()
        decay = sum(torch.norm(d) / torch.norm(v) ** 2 for d, v in zip(deltas, v0, strict=True))
        nll = settings.get("nll_factor", 1.0) * (0.1 if eased else 1.0) * nll
        loss = nll + settings["kl_factor"] * kl + settings["weight_decay"] * decay
        for each in zip(*streams[:-1], strict=True):
            pairs = [(a - b).square().sum() for a, b in combinations(each, 2)]
            loss = loss + settings["context_penalty"] * sum(pairs) / lm.d_model / len(watched)
        losses.append(loss.item())
        if loss.item() < values.ENOUGH or step == settings["steps"] - 1:
            break
        if stop is not None and stop(said, target):
            break
        if "kl_enough" in settings:
            eased = mean_probability(said, target) == mean_probability(said)
            if eased and kl.item() <= settings["kl_enough"]:
                break
        adam.zero_grad()
        loss.backward()
        adam.step()
        for delta, v in zip(deltas, v0, strict=True):
            limit = settings["clamp"] * v.norm()
            if delta.norm() > limit:
                with torch.no_grad():
                    delta.mul_(limit / delta.norm())
    found = torch.stack(v0), torch.stack(deltas).detach()
    return *(found if site == "both" else (x[0] for x in found)), losses


def mean_probability(said: Sequence[torch.Tensor], target: Sequence[int] | None = None) -> float:
    """The mean over texts of exp(mean log-probability) of the target, or of the likeliest tokens."""
    each = [rows.amax(-1) if target is None else rows[range(len(target)), target] for rows in said]
    return sum(rows.mean().exp().item() for rows in each) / len(each)


def check_values(
    lm: LanguageModel,
    asked: Sequence[EditRequest],
    contexts: Sequence[str],
    where: tuple[int, str],
    settings: Mapping[str, float],
    atol: float,
    *,
    losses: float = 1e-7,
    stop: Callable[[], Callable | None] = lambda: None,
    state: State = EMPTY,
    cases: Sequence[int] | None = None,
    **options: float,
) -> values.Values:
    """Values solved together, held against obvious ones and against each solved alone.

    `where` is a layer and a site; `stop` makes what the obvious optimisation is to do for `options`.
    """
    objective = Objective(*where, **settings, **options)
    found = values.solve_values(lm, asked, contexts, objective, state, cases)
    for i, request in enumerate(asked):
        edited = written(lm, state, cases[i]) if cases else lm
        v0, delta, trace = obvious_value(edited, request, contexts, *where, settings, stop())
        assert torch.allclose(found.init[i], v0, atol=min(atol, 1e-9))
        assert torch.allclose(found.delta[i], delta, atol=atol), request
        assert found.updates[i] == len(trace) - 1
        mine = found.losses[:, i]
        assert mine[mine.isfinite()].tolist() == pytest.approx(trace, abs=losses)
        alone = values.solve_values(lm, [request], contexts, objective, state, cases and [cases[i]])
        assert alone.updates[0] == found.updates[i]
        assert torch.allclose(alone.delta[0], found.delta[i], atol=1e-9)
    return found
