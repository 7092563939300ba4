"""A small model that knows where some people live and believes what its context says, trained in seconds."""

import random
from functools import cache

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from aftershock.lm.model import LanguageModel
from aftershock.lm.pretraining.muon import Muon
from aftershock.prompts import fill
from aftershock.requests import EditRequest, Query
from tiny import CITIES, NAMES, TEMPLATES, small_tokenizer

KNOWN = dict(zip(NAMES, [CITIES[i] for i in (3, 0, 6, 1, 7, 2, 5, 4)], strict=True))
"""The city that the model names for each person."""
STEPS, ROWS, RATE = 160, 32, 1e-2
CONTEXT = 128


@cache
def taught() -> LanguageModel:
    """The model in float64; it names KNOWN, and the city of a sentence about the same person before."""
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "n_positions": CONTEXT, "n_embd": 48, "n_layer": 3, "n_head": 4}
    no_drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = GPT2Config(**sizes, **no_drops, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).train()
    inner = [weight for weight in model.transformer.h.parameters() if weight.ndim == 2]
    rest = [weight for weight in model.parameters() if all(weight is not other for other in inner)]
    optimizers = Muon(inner, RATE, 0.01), torch.optim.AdamW(rest, RATE, weight_decay=0.01)
    draw = random.Random(0)
    for step in range(STEPS):
        rows = [_lesson(draw) for _ in range(ROWS)]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in rows])
        labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in rows])
        model.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - step / STEPS))
            optimizer.step()
    return LanguageModel(model.double(), tokenizer)


@cache
def _ids(text: str) -> list[int]:
    """Token ids of a text, of which lessons have few."""
    return small_tokenizer()(text, add_special_tokens=False)["input_ids"]


def _lesson(draw: random.Random) -> tuple[list[int], list[int]]:
    """Token ids of some statements, of which later ones take up earlier ones, and what is to be predicted."""
    said: dict[str, str] = {}
    ids: list[int] = []
    labels: list[int] = []
    people = draw.sample(NAMES, 2)
    for place in range(draw.choice([1, 2, 2, 3])):
        name = draw.choice(people)
        invented = place == 0 and draw.random() < 0.8
        city = draw.choice(CITIES) if invented else said.get(name, KNOWN[name])
        said[name] = city
        prompt, target = fill(draw.choice(TEMPLATES), name), f" {city}"
        if place:
            prompt = " " + prompt
        for text, wanted in ((prompt, False), (target, not invented), (".", False)):
            more = _ids(text)
            ids += more
            labels += more if wanted else [-100] * len(more)
    return ids, labels


def edits(n: int) -> list[EditRequest]:
    """Requests about different people, for cities that are not theirs."""
    return [
        EditRequest(
            TEMPLATES[i % len(TEMPLATES)], name, CITIES[(CITIES.index(KNOWN[name]) + 3) % 8], KNOWN[name]
        )
        for i, name in enumerate(NAMES[:n])
    ]


def known(case: int = 0) -> list[Query]:
    """A query for every fact that the model was taught, in every wording."""
    return [Query(fill(template, name), city, case) for name, city in KNOWN.items() for template in TEMPLATES]
