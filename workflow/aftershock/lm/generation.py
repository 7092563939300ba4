"""Continuation of texts by a model: greedy, or sampled with a seed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache

from aftershock.lm.edits import EMPTY, Batch, State, apply_deltas, merge_many, rewrite_prompts
from aftershock.lm.model import LanguageModel
from aftershock.lm.outputs import Read

BATCH_ROWS = 256


def continue_greedily(
    lm: LanguageModel,
    prompts: Sequence[str],
    n_tokens: int,
    state: State = EMPTY,
    cases: Sequence[int] | None = None,
) -> list[str]:
    """The likeliest continuation of each prompt, up to `n_tokens` tokens.

    It ends earlier where the model ends the text and where its context ends. Prompt i runs with the weights
    of case `cases[i]` of `state`.
    """
    cases = list(cases) if cases is not None else [0] * len(prompts)
    prompts = rewrite_prompts(lm, state, prompts, cases)
    case_of = torch.tensor(cases, device=lm.device)
    by_length = defaultdict(list)
    encoded, closing = lm.encode_prompts(prompts), lm.ends
    state = merge_many(state, sum(len(ids) + n_tokens for ids in encoded) / max(1, len(set(cases))))
    for i, ids in enumerate(encoded):
        lm.check_length([*ids, 0], prompts[i])
        by_length[len(ids)].append(i)
    texts = [""] * len(prompts)
    for length, rows in by_length.items():
        more = min(n_tokens, lm.context - length)
        for start in range(0, len(rows), BATCH_ROWS):
            chosen = rows[start : start + BATCH_ROWS]
            ids = torch.tensor([encoded[i] for i in chosen], device=lm.device)
            ends = torch.full((len(chosen),), length - 1, device=lm.device)
            with apply_deltas(lm, state, Batch(ids, case_of[chosen], ends)):
                grown = _grow(lm, ids, more, lambda scores: scores.argmax(dim=-1))
            for i, row in zip(chosen, grown[:, ids.shape[1] :].tolist(), strict=True):
                end = next((place for place, token in enumerate(row) if token in closing), None)
                texts[i] = lm.tokenizer.decode(row[:end])
    return texts


def sample(
    lm: LanguageModel, start: Sequence[int], n_tokens: int, count: int, top_k: int, seed: int
) -> list[str]:
    """`count` texts that begin with the tokens `start` and have `n_tokens` in all, `start` included.

    Each next token is drawn from the `top_k` likeliest. Special tokens are left out of the texts.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(scores: Tensor) -> Tensor:
        best = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
        choice = torch.multinomial(best.values.softmax(dim=-1).cpu(), 1, generator=generator)
        return best.indices.gather(1, choice.to(lm.device))[:, 0]

    ids = torch.tensor([list(start)] * count, device=lm.device)
    grown = _grow(lm, ids, max(0, n_tokens - len(start)), draw)
    return [lm.tokenizer.decode(row, skip_special_tokens=True) for row in grown.tolist()]


@torch.no_grad()
def _grow(lm: LanguageModel, ids: Tensor, n_tokens: int, pick: Callable[[Tensor], Tensor]) -> Tensor:
    """`ids` (batch, seq) with `n_tokens` more, each chosen by `pick` from the scores (batch, vocabulary)."""
    cache, length = DynamicCache(), ids.shape[1]
    fresh = ids
    for _ in range(n_tokens):
        seen = torch.ones(ids.shape, dtype=torch.long, device=lm.device)
        hidden = lm.run(fresh, seen, past_key_values=cache, use_cache=True)
        fresh = pick(lm.logits(hidden[:, -1], partial(Read.last, ids, length)))[:, None]
        ids = torch.cat([ids, fresh], dim=1)
    return ids
