"""Requests in KN's terms: the objects whose probability is attributed and those added to neurons."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aftershock.editors.kn import KnSettings
from aftershock.lm.attribution import Saying
from aftershock.lm.edits import Batch, State, apply_deltas, rewrite_prompts
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.prompts import bare, fill
from aftershock.requests import EditRequest


@dataclass(frozen=True)
class Objects:
    """The old and new objects of N requests, each after all `prompts`."""

    prompts: Sequence[str]
    """Templates for a prompt."""
    parts: list[tuple[int, Saying]]
    """The attributed sayings, each with the number request * prompts + prompt; the mean over those of one
    prompt counts."""
    change: Tensor
    """The vectors added to the column of each neuron, (N, d)."""


def read_objects(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    settings: KnSettings,
    state: State,
    cases: Sequence[int],
) -> Objects:
    """The old and new objects as in the paper.

    The old one is the request's, or the token that the model says after its prompt where it names none.
    """
    read, _ = _prompts(lm, requests, templates, state, cases)
    plain = read[:: len(templates)]
    new = [pair.target for pair in encode_pairs(lm, _pairs(plain, [r.target_new for r in requests]))]
    own = _said_by_nameless(lm, requests, plain, state, cases)
    sayings = []
    for i, request in enumerate(requests):
        texts = read[i * len(templates) : (i + 1) * len(templates)]
        if i in own:
            sayings += [Saying(tuple(ids), (own[i],), True) for ids in lm.encode_prompts(texts)]
        else:
            pairs = encode_pairs(lm, _pairs(texts, [request.target_true] * len(texts)))
            sayings += [Saying.of(pair) for pair in pairs]
    head = lm.model.get_output_embeddings().weight
    old = [sayings[i * len(templates)].tokens for i in range(len(requests))]
    t, t_new = (
        torch.stack([head[list(tokens)].mean(dim=0).to(lm.device) for tokens in objects])
        for objects in (old, new)
    )
    change = settings.lambda_new * t_new - settings.lambda_old * t
    return Objects(templates, list(enumerate(sayings)), change)


def _prompts(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    state: State,
    cases: Sequence[int],
) -> tuple[list[str], list[int]]:
    """Every request after every template as the model reads it in `state`, and the case of each."""
    prompts = [fill(template, request.text) for request in requests for template in templates]
    owners = [case for case in cases for _ in templates]
    return rewrite_prompts(lm, state, prompts, owners), owners


def read_released(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    settings: KnSettings,
    state: State,
    cases: Sequence[int],
) -> Objects:
    """The old and new objects as the released code reads them; the old one as in `read_objects`."""

    def encoded(prompts: Sequence[str], objects: Sequence[str]) -> list[list[int]]:
        follow = lm.frame.follow if settings.leading_space else lambda _, target: target
        return lm.tokenize(list(map(follow, prompts, objects)))["input_ids"]

    read, owners = _prompts(lm, requests, templates, state, cases)
    plain = read[:: len(templates)]
    new = encoded(plain, [request.target_new for request in requests])
    own = _said_by_nameless(lm, requests, plain, state, cases)
    named = encoded(plain, [request.target_true for request in requests])
    old = [[own[i]] if i in own else ids for i, ids in enumerate(named)]
    sizes = [len(ids) for ids in old for _ in templates]
    greedy = settings.continued == "greedy" or (settings.continued is None and lm.family.gated)
    parts = []
    texts, _ = _continue(lm, read, sizes if greedy else [1] * len(read), state, owners)
    for number, mine in enumerate(texts):
        ids = old[number // len(templates)]
        if greedy:
            parts += [(number, Saying(tuple(text), (t,), False)) for text, t in zip(mine, ids, strict=True)]
        else:
            parts.append((number, Saying(tuple(mine[0]), tuple(ids), False)))
    _, said = _continue(lm, plain, [len(ids) for ids in new], state, cases)
    table = lm.model.get_input_embeddings().weight
    change = torch.stack([_sum(table, ids) - _sum(table, out) for ids, out in zip(new, said, strict=True)])
    single = torch.tensor([len(out) == 1 for out in said], device=table.device)
    first = torch.stack([table[out[0]] for out in said])
    return Objects(templates, parts, (change - single[:, None] * first).to(lm.device))


def _said_by_nameless(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    prompts: Sequence[str],
    state: State,
    cases: Sequence[int],
) -> dict[int, int]:
    """The token that the model gives after the prompt of each request without an old object, by number."""
    nameless = [i for i, request in enumerate(requests) if not request.target_true.strip()]
    texts = lm.encode_prompts([prompts[i] for i in nameless])
    tokens = _next_tokens(lm, texts, state, [cases[i] for i in nameless])
    return dict(zip(nameless, tokens, strict=True))


def _sum(table: Tensor, ids: Sequence[int]) -> Tensor:
    return table[list(ids)].sum(dim=0)


def _pairs(prompts: Sequence[str], targets: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(prompts, targets, strict=True))


def _continue(
    lm: LanguageModel, prompts: Sequence[str], sizes: Sequence[int], state: State, cases: Sequence[int]
) -> tuple[list[list[list[int]]], list[list[int]]]:
    """The tokens before each of a prompt's next `sizes[i]` greedy tokens, and these tokens.

    As in the released code each token's text is put behind the prompt, and the whole is tokenised anew.
    Behind a prompt in a frame, which it does not have, the token itself is put.
    """
    texts = [[ids] for ids in lm.encode_prompts(prompts)]
    said: list[list[int]] = [[] for _ in prompts]
    for step in range(max(sizes)):
        live = [i for i, size in enumerate(sizes) if step < size]
        tokens = _next_tokens(lm, [texts[i][-1] for i in live], state, [cases[i] for i in live])
        for i, token in zip(live, tokens, strict=True):
            said[i].append(token)
            if step + 1 < sizes[i]:
                texts[i].append(_followed(lm, prompts[i], texts[i][0], said[i]))
    return texts, said


def _followed(lm: LanguageModel, prompt: str, ids: Sequence[int], said: Sequence[int]) -> list[int]:
    """The tokens of a prompt, by itself `ids`, with what was said after it."""
    if lm.prompt_format != "plain":
        return [*ids, *said]
    return lm.encode([bare(prompt) + "".join(lm.tokenizer.decode([token]) for token in said)])[0]


@torch.no_grad()
def _next_tokens(
    lm: LanguageModel, texts: Sequence[Sequence[int]], state: State, cases: Sequence[int]
) -> list[int]:
    """The likeliest token after each text."""
    if not texts:
        return []
    ids, mask = lm.pad(texts)
    batch = Batch.of_prompts(ids, mask, torch.tensor(cases, device=lm.device))
    with apply_deltas(lm, state, batch), lm.reduced():
        hidden = lm.run(ids, mask, use_cache=False)
    last = hidden[torch.arange(len(texts), device=lm.device), batch.prompt_ends]
    return lm.logits(last).argmax(dim=-1).tolist()
