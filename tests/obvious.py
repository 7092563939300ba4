"""The slow, obvious optimisation of a value: whole texts one by one, torch's Adam, hooks that add."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import torch

from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation import values
from aftershock.prompts import fill
from aftershock.requests import EditRequest


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

    handles = [lm.model.get_submodule(name).register_forward_hook(adder(x)) for name, x in changes.items()]
    handles += [lm.model.get_submodule(name).register_forward_hook(watch) for name in watched]
    log_p = lm.model(input_ids=torch.tensor([list(ids)])).logits[0].log_softmax(-1)
    for handle in handles:
        handle.remove()
    return log_p, seen, streams


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
