"""Answers to messages: through a model's chat template where it has one, else as a continuation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.frames import answer_ends
from aftershock.seeds import derive

PLAIN_ENDING = "\n\nAnswer:\n["
"""Ending of a prompt for a model without a chat template; the bracket belongs to its answer."""


@dataclass(frozen=True)
class Reply:
    """A model's reply."""

    text: str
    ended: bool  # with an end token
    prompt_tokens: int
    completion_tokens: int


def reply(
    lm: LanguageModel,
    messages: Sequence[Mapping[str, str]],
    max_tokens: int = 1024,
    temperature: float = 1.0,
    seed: int = 0,
) -> Reply:
    """The answer to `messages`, sampled; temperature 0 takes the likeliest tokens.

    It ends where the model ends it, after `max_tokens`, or where the context ends. ValueError when the
    messages alone fill the context.
    """
    ids, opening = _encode(lm, messages)
    room = min(max_tokens, lm.context - len(ids))
    if room < 1:
        raise ValueError(
            f"the messages have {len(ids)} tokens, the model's context is {lm.context}: take a model with a "
            "longer one"
        )
    ends = answer_ends(lm.model, lm.tokenizer)
    generator = torch.Generator().manual_seed(derive(seed, json.dumps(list(map(dict, messages)))))
    said = _sample(lm, ids, room, temperature, ends, generator)
    ended = bool(said) and said[-1] in ends
    text = opening + lm.tokenizer.decode(said[:-1] if ended else said, skip_special_tokens=True)
    return Reply(text, ended, len(ids), len(said))


def _encode(lm: LanguageModel, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], str]:
    """Token ids of the messages, and the beginning of the answer that the template already holds."""
    if getattr(lm.tokenizer, "chat_template", None):
        text = lm.tokenizer.apply_chat_template(
            [dict(message) for message in messages], add_generation_prompt=True, tokenize=False
        )
        return lm.tokenizer(text, add_special_tokens=False)["input_ids"], ""
    (ids,) = lm.encode(["\n\n".join(message["content"] for message in messages) + PLAIN_ENDING])
    return ids, "["


@torch.no_grad()
def _sample(
    lm: LanguageModel,
    ids: Sequence[int],
    n_tokens: int,
    temperature: float,
    ends: set[int],
    generator: torch.Generator,
) -> list[int]:
    """Up to `n_tokens` tokens after `ids`, an ending one included."""
    cache = DynamicCache()
    said: list[int] = []
    fresh = torch.tensor([list(ids)], device=lm.device)
    while len(said) < n_tokens and not (said and said[-1] in ends):
        hidden = lm.run(fresh, None, past_key_values=cache, use_cache=True)
        scores = lm.logits(hidden[0, -1]).float().cpu()
        if temperature > 0:
            token = torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator)[0]
        else:
            token = scores.argmax()
        said.append(int(token))
        fresh = token.view(1, 1).to(lm.device)
    return said
