"""Continuation of texts by a model: greedy, or sampled with a seed."""

from collections.abc import Sequence
from functools import partial

import torch
from transformers import DynamicCache

from aftershock.lm.answers import answer_greedily
from aftershock.lm.edits import EMPTY, State, rewrite_prompts
from aftershock.lm.model import LanguageModel
from aftershock.lm.outputs import Read


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
    if n_tokens < 1:
        return [""] * len(prompts)
    cases = list(cases) if cases is not None else [0] * len(prompts)
    prompts = rewrite_prompts(lm, state, prompts, cases)
    encoded = lm.encode_prompts(prompts)
    for ids, prompt in zip(encoded, prompts, strict=True):
        if not ids:
            raise ValueError(f"prompt {prompt!r} has no tokens; a continuation needs something to follow")
        lm.check_length([*ids, 0], prompt)
    most = [min(n_tokens, lm.context - len(ids)) for ids in encoded]
    answers = answer_greedily(lm, encoded, most, ends=sorted(lm.ends), state=state, cases=cases)
    return [lm.tokenizer.decode(answer.tokens) for answer in answers]


@torch.no_grad()
def sample(
    lm: LanguageModel, start: Sequence[int], n_tokens: int, count: int, top_k: int, seed: int
) -> list[str]:
    """`count` texts that begin with the tokens `start` and have `n_tokens` in all, `start` included.

    Each next token is drawn from the `top_k` likeliest. Special tokens are left out of the texts.
    """
    generator, cache = torch.Generator().manual_seed(seed), DynamicCache()
    ids = torch.tensor([list(start)] * count, device=lm.device)
    fresh = ids
    for _ in range(n_tokens - len(start)):
        hidden = lm.run(fresh, None, past_key_values=cache, use_cache=True)
        scores = lm.logits(hidden[:, -1], partial(Read.last, ids, len(start)))
        best = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
        choice = torch.multinomial(best.values.softmax(dim=-1).cpu(), 1, generator=generator)
        fresh = best.indices.gather(1, choice.to(lm.device))
        ids = torch.cat([ids, fresh], dim=1)
    return [lm.tokenizer.decode(row, skip_special_tokens=True) for row in ids.tolist()]
