"""Random models of given sizes, with texts, contexts and second moments as long and as large as real ones.

How long a computation takes does not depend on what the weights say, so they are drawn from the model's
configuration, on the device: nothing is downloaded. The tokenizer knows fewer tokens than the head of a large
model has, which costs the same whatever its tokens are called.
"""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from aftershock.lm.model import LanguageModel
from aftershock.lm.pretraining.tokenizer import train_tokenizer
from aftershock.lm.statistics.moments import Moment
from aftershock.requests import EditRequest

WORDS, MERGED = 500, 1500  # words that texts are made of, and the size of the tokenizer that knows them
SHAPES = ((8, 2, 2, 1), (11, 3, 3, 2), (14, 3, 5, 4))
"""Words of a prompt, of its subject, after its subject, and of a target; most words are one token."""
CONTEXTS = {"rome": ((5, 10), (10, 10)), "memit": ((10, 5),)}  # (tokens, texts), as published


@dataclass(frozen=True)
class Size:
    """A model, and where the methods edit it: the published layers, or those at the same relative depth."""

    config: Mapping[str, Any]
    layers: Mapping[str, Sequence[int]]
    kind: type = GPT2Config
    settings: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"memit": {"mom2_weight": 20000.0}, "ft": {"norm_constraint": 5e-4}}
    )

    @property
    def name(self) -> str:
        """Layers x width."""
        config = self.kind(**self.config)
        return f"{config.num_hidden_layers}x{config.hidden_size}"


@dataclass(frozen=True)
class Texts:
    """Questions to a model: the first n requests, n targets and n further wordings of a case, contexts."""

    requests: Callable[[int], list[EditRequest]]
    targets: Callable[[int, int], list[str]]
    paraphrases: Callable[[EditRequest, int, int], list[str]]
    contexts: Callable[[str], Sequence[Sequence[str]]]


def _gpt2(layers: int, width: int, heads: int, vocabulary: int, context: int = 1024) -> dict[str, int]:
    sizes = {"n_layer": layers, "n_embd": width, "n_head": heads}
    return sizes | {"vocab_size": vocabulary, "n_positions": context}


def _llama(
    layers: int, width: int, inner: int, heads: int, kv_heads: int, vocabulary: int, context: int
) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
    }


SIZES = {
    "stub": Size(_gpt2(3, 16, 2, MERGED, 128), {"rome": [1], "memit": [0, 1], "ft": [0]}),
    "stub-gptj": Size(
        _gpt2(3, 16, 2, MERGED, 128) | {"rotary_dim": 4},
        {"rome": [1], "memit": [0, 1], "ft": [0]},
        GPTJConfig,
    ),
    "stub-llama": Size(
        _llama(3, 16, 40, 2, 1, MERGED, 128), {"rome": [1], "memit": [0, 1], "ft": [0]}, LlamaConfig
    ),
    "tiny": Size(_gpt2(4, 128, 4, MERGED, 128), {"rome": [1], "memit": [0, 1], "ft": [0]}),
    "small": Size(_gpt2(12, 768, 12, 50257), {"rome": [4], "memit": [2, 3, 4, 5, 6], "ft": [0]}),
    "smollm2": Size(
        _llama(30, 576, 1536, 9, 3, 49152, 8192),
        {"rome": [3], "memit": [3, 4, 5], "ft": [20]},
        LlamaConfig,
        {"memit": {"mom2_weight": 500.0}, "ft": {"norm_constraint": None}},
    ),
    "gpt2-xl": Size(_gpt2(48, 1600, 25, 50257), {"rome": [17], "memit": range(13, 18), "ft": [0]}),
    "gpt-j": Size(
        _gpt2(28, 4096, 16, 50400, 2048) | {"rotary_dim": 64},
        {"rome": [5], "memit": range(3, 9), "ft": [0]},
        GPTJConfig,
        {"memit": {"mom2_weight": 15000.0}, "ft": {"norm_constraint": 5e-5}},
    ),
}


def build(
    size: Size, device: str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0, **options: Any
) -> LanguageModel:
    """A random model; `options` are the LanguageModel's."""
    torch.manual_seed(seed)
    config = size.kind(bos_token_id=0, eos_token_id=0, **size.config)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return LanguageModel(model, tokenizer(), **options)


def as_published(lm: LanguageModel) -> LanguageModel:
    """The same weights in exact products, and all modules as transformers has them: for the plain path."""
    with torch.device("meta"):
        model = type(lm.model)(lm.model.config)
    for tensors in (lm.model.named_parameters, lm.model.named_buffers):
        for name, tensor in tensors(remove_duplicate=False):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, tensor)
    same = copy.copy(lm)
    same.model, same.precision = model.eval(), "strict"
    return same


@cache
def vocabulary() -> list[str]:
    """Words of two or three syllables."""
    draw = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    return sorted({"".join(draw.choices(syllables, k=draw.choice((2, 3)))) for _ in range(WORDS)})


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer for which most of the words are one token."""
    draw = random.Random(1)
    return train_tokenizer((" ".join(draw.choices(vocabulary(), k=12)) for _ in range(4000)), MERGED, 1024)


def requests(n: int, seed: int = 0) -> list[EditRequest]:
    """Requests of SHAPES in turn, so that any three in a row are as long on average as all are."""
    draw = random.Random(f"requests {seed}")
    made = []
    for i in range(n):
        size, subject, after, target = SHAPES[i % len(SHAPES)]
        said, start = words(draw, size), size - subject - after
        prompt = " ".join([*said[:start], "{}", *said[start + subject :]])
        name = " ".join(said[start : start + subject])
        made.append(EditRequest(prompt, name, " ".join(words(draw, target))))
    return made


def targets(n: int, seed: int) -> list[str]:
    """Different targets of 1 to 5 words."""
    draw, found = random.Random(f"targets {seed}"), {}
    while len(found) < n:
        found[" ".join(words(draw, draw.choice((1, 1, 2, 2, 3, 4, 5))))] = None
    return list(found)


def paraphrases(request: EditRequest, n: int, seed: int) -> list[str]:
    """The request's prompt, then n others with its subject."""
    others = requests(n, seed)
    return [request.text, *(other.prompt.replace("{}", request.subject) for other in others)]


def contexts(method: str) -> list[list[str]]:
    """Templates to read a prompt after, of the published number and lengths."""
    draw = random.Random(f"contexts {method}")
    kinds = [[" ".join(words(draw, tokens)) + ". {}" for _ in range(n)] for tokens, n in CONTEXTS[method]]
    return [["{}"], *kinds]


def words(draw: random.Random, n: int) -> list[str]:
    """n words."""
    return draw.choices(vocabulary(), k=n)


DRAWN = Texts(requests, targets, paraphrases, contexts)
"""Texts of the words that the random models' tokenizer knows."""


def moments(lm: LanguageModel, layers: Sequence[int], seed: int = 0) -> dict[int, Moment]:
    """Well-conditioned random second moments of the size of the model's own."""
    made = {}
    for layer in layers:
        width = lm.weight(lm.projection(layer)).shape[1]
        g = torch.Generator(lm.device).manual_seed(seed + layer)
        options = {"generator": g, "device": lm.device}
        spread = 10 ** (-1.5 * torch.rand(width, **options))
        drawn = torch.randn(width, 2 * width, **options) * spread[:, None]
        matrix = drawn @ drawn.T / (2 * width)
        made[layer] = Moment(matrix.to(torch.promote_types(lm.dtype, torch.float32)), 2 * width)
    return made
