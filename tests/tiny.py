"""Three-layer random models of every family, with a tokenizer trained here, and slow, obvious code."""

import copy
import hashlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import cycle, islice, takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from aftershock.lm.edits import Dense, LowRank, State
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.lm.pretraining.tokenizer import train_tokenizer
from aftershock.lm.statistics.moments import Moment, Part, second_moments
from aftershock.prompts import fill
from aftershock.requests import EditRequest

_HALF = {"num_key_value_heads": 1}  # two heads share their keys and values
_WINDOW = {"sliding_window": 5}  # far fewer tokens than the texts have
_LOCAL, _WHOLE = "sliding_attention", "full_attention"
_IN_TURN = {"layer_types": [_LOCAL, _WHOLE, _LOCAL]}
_GEMMA = {**_HALF, **_WINDOW, "head_dim": 8, "query_pre_attn_scalar": 12}
FAMILIES = {
    "gpt2": {},
    "gptj": {"rotary_dim": 4},
    "gpt_neox": {},
    "llama": {**_HALF},
    "mistral": {**_HALF, **_WINDOW},  # in all layers
    "qwen2": {**_HALF, **_WINDOW, "use_sliding_window": True, "max_window_layers": 1},  # not in the first one
    "qwen3": {**_HALF, "head_dim": 6},
    # a window in the first and the last layer
    "gemma2": {**_GEMMA, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0},
    # a window in the first two layers, whose positions turn at another rate
    "gemma3_text": {**_GEMMA, "layer_types": [_LOCAL, _LOCAL, _WHOLE]},
    "olmo2": {},
    "olmo3": {**_WINDOW, **_IN_TURN},
    "smollm3": {**_HALF, "no_rope_layers": [1, 0, 1], "pad_token_id": 0},
    "ministral": {**_HALF, **_WINDOW, "head_dim": 8, "layer_types": [_WHOLE, _LOCAL, _WHOLE]},
    "phi3": {**_HALF, "pad_token_id": 0},
    "phi": {"partial_rotary_factor": 0.5, "qk_layernorm": True},
    "granite": {
        **_HALF,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.7,
        "attention_multiplier": 0.5,
        "logits_scaling": 1.5,
    },
}
"""Entries of the configuration of each family's model beyond the common ones."""

_TURNING = {"rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rope_type": "default"}}
MORE = {
    "gemma": {**_HALF, "head_dim": 8},
    "ernie4_5": {**_HALF, "head_dim": 8},
    "seed_oss": {**_HALF, "head_dim": 8, "pad_token_id": 0},
    "hunyuan_v1_dense": {**_HALF, "head_dim": 8},
    "stablelm": {**_HALF, **_TURNING},
    "cohere2": {**_HALF, **_WINDOW, **_IN_TURN, "head_dim": 8, "logit_scale": 0.5},
    "exaone4": {**_HALF, **_WINDOW, **_IN_TURN},
    "glm": {**_HALF, **_TURNING, "head_dim": 8, "pad_token_id": 0},
    "glm4": {**_HALF, **_TURNING, "head_dim": 8, "pad_token_id": 0},
    "nemotron": {**_HALF, **_TURNING, "head_dim": 8},
    "apertus": {**_HALF, "pad_token_id": 0},
    "starcoder2": {**_HALF, **_WINDOW},
    "olmo": {**_HALF, "pad_token_id": 0},
    "cohere": {**_HALF, "logit_scale": 0.5, "pad_token_id": 0},
    "arcee": {**_HALF, "head_dim": 8},
    "helium": {**_HALF, "head_dim": 8, "pad_token_id": 0},
    "gpt_bigcode": {},
    "opt": {"ffn_dim": 40, "pad_token_id": 0},
    "falcon": {"ffn_hidden_size": 40, "bias": True},
    "gpt_neo": {
        "num_layers": 3,
        "num_heads": 2,
        "attention_types": [[["local", "global", "local"], 1]],
        "window_size": 5,
    },
}
"""The same of families that are built like one of those above, on which not everything is tried again."""


def in_turn(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each family and each of `names` once at least, in pairs that take turns."""
    pairs = zip(cycle(names), cycle(FAMILIES), strict=False)
    return list(islice(pairs, max(len(names), len(FAMILIES))))


def with_each(names: Sequence[Any]) -> list[tuple[Any, str]]:
    """Each of `names` with each family; with those of MORE, which bring nothing new, they take turns."""
    return [(name, family) for family in FAMILIES for name in names] + list(
        zip(cycle(names), MORE, strict=False)
    )


ROUNDING = dict.fromkeys(FAMILIES | MORE, 1e-9)
"""Tolerance of a float64 model of each family."""

CONTEXT = 48
NAMES = [
    *("Ada Vex", "Bruno Quill", "Clara Å. Moss", "Dario", "Edith {Oak} Tull", "Felix Zorn", "Greta"),
    "Hugo Lind",
]
CITIES = ["Oslo", "Old Mill Town", "Rome", "Greenfield", "Lisbon", "New Castle upon Tyne", "Graz", "Ulm"]
TEMPLATES = ["{} was born in", "The city where {} was born is", "As for {}, home is"]
TEXTS = [fill(t, name) + f" {city}." for t in TEMPLATES for name in NAMES for city in CITIES]


@cache
def small_tokenizer():
    """The tokenizer of all small models."""
    return train_tokenizer(TEXTS, 420, CONTEXT)


def _config(family: str, vocab_size: int):
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    if family in ("gpt2", "gptj"):
        names = ("n_embd", "n_layer", "n_head", "n_positions")
    sizes = dict(zip(names, (16, 3, 2, CONTEXT), strict=True))
    if family not in ("gpt2", "gptj"):
        sizes["intermediate_size"] = 40
    drops = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1} if family in ("gpt2", "gptj") else {}
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": vocab_size}
    return AutoConfig.for_model(family, **sizes, **drops, **tokens, **(FAMILIES | MORE)[family])


class _Wide:
    """torch with float64 under the name of float32."""

    float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


def _widen(family: str) -> None:
    """Let a family's float64 models compute in float64 throughout, where the code asks for float32 inside."""
    name = family.removesuffix("_text")
    code = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    code.torch = _Wide()
    if name in ("gemma2", "gemma3"):
        norm = getattr(code, f"{name.capitalize()}RMSNorm")
        norm.forward = lambda self, x: self._norm(x) * (1.0 + self.weight)


def tiny(
    family: str = "gpt2", dtype: torch.dtype = torch.float64, seed: int = 0, tokenizer=None
) -> LanguageModel:
    """A random model whose weights are large enough that texts differ."""
    tokenizer = tokenizer or small_tokenizer()
    if dtype == torch.float64:
        _widen(family)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_config(family, len(tokenizer))).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.25)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return LanguageModel(model, tokenizer)


def saying(city: str) -> LanguageModel:
    """A model that names one city, of one token, for everyone."""
    lm = tiny()
    (token,) = lm.encode_targets([city])[0]
    lm.model.transformer.ln_f.bias += 4 * lm.model.get_input_embeddings().weight[token]
    return lm


def requests(n: int, template: int = 0) -> list[EditRequest]:
    """Requests about different names, whose targets have different numbers of tokens."""
    return [
        EditRequest(
            TEMPLATES[(template + i) % len(TEMPLATES)],
            NAMES[i % len(NAMES)],
            CITIES[(i + template) % len(CITIES)],
        )
        for i in range(n)
    ]


_moments: dict[str, dict[int, Moment]] = {}


def moments(lm: LanguageModel, part: Part = "mlp") -> dict[int, Moment]:
    """Second moments of all layers, computed once for models of equal weights."""
    weights = hashlib.sha256(f"{lm.model.config.model_type} {lm.dtype} {part}".encode())
    for tensor in lm.model.state_dict().values():
        weights.update(tensor.numpy().tobytes())
    if weights.hexdigest() not in _moments:
        _moments[weights.hexdigest()] = _collected(lm, part)
    return dict(_moments[weights.hexdigest()])


def _collected(lm: LanguageModel, part: Part) -> dict[int, Moment]:
    """Second moments on texts of many tokens: GPT-J's first keys depend on little else."""
    g = torch.Generator().manual_seed(0)
    letters = [chr(i) for i in torch.randint(33, 0x180, (3000,), generator=g)]
    noise = ["".join(letters[i : i + 15]) for i in range(0, len(letters), 15)]
    return second_moments(lm, [*TEXTS, *noise], range(lm.n_layers), part)


def low_rank(lm: LanguageModel, layer: int, cases: int, rank: int = 2, seed: int = 0) -> LowRank:
    """A random change of low rank."""
    g = torch.Generator().manual_seed(seed)
    d_out, d_in = lm.weight(lm.projection(layer)).shape
    u, v = (torch.randn(cases, rank, d, generator=g, dtype=lm.dtype) * 0.3 for d in (d_in, d_out))
    return LowRank(lm.projection(layer), u, v)


def dense(lm: LanguageModel, layer: int, cases: int, seed: int = 0) -> Dense:
    """A random change of a whole weight, and of its bias where there is one."""
    g = torch.Generator().manual_seed(seed)
    weight, bias = lm.weight(lm.projection(layer)), lm.bias(lm.projection(layer))
    return Dense(
        lm.projection(layer),
        torch.randn(cases, *weight.shape, generator=g, dtype=lm.dtype) * 0.1,
        None if bias is None else torch.randn(cases, len(bias), generator=g, dtype=lm.dtype) * 0.1,
    )


def written(lm: LanguageModel, state: State, case: int) -> LanguageModel:
    """A copy of the model with one case's changes written into its weights."""
    model = copy.deepcopy(lm.model)
    with torch.no_grad():
        for delta in state:
            module = model.get_submodule(delta.module)
            lm.family.weight(module).add_(delta.dense()[case])
            if isinstance(delta, Dense) and delta.bias is not None:
                module.bias.add_(delta.bias[case])
    return LanguageModel(model, lm.tokenizer)


def next_log_probs(lm: LanguageModel, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities at every position of one unpadded text, (seq, vocabulary)."""
    with torch.no_grad():
        return lm.model(input_ids=torch.tensor([list(ids)])).logits[0].log_softmax(-1)


def target_log_probs(lm: LanguageModel, ids: Sequence[int], n: int) -> list[float]:
    """Log-probabilities of the last `n` tokens of one text."""
    return next_log_probs(lm, ids)[range(len(ids) - n - 1, len(ids) - 1), list(ids[-n:])].tolist()


def likeliest(lm: LanguageModel, ids: Sequence[int], n: int, ends: Iterable[int] = ()) -> list[int]:
    """The likeliest `n` tokens behind some, each in a whole pass; without an end and what follows it."""
    found = list(ids)
    for _ in range(n):
        found.append(int(next_log_probs(lm, found)[-1].argmax()))
    return list(takewhile(lambda token: token not in set(ends), found[len(ids) :]))


@contextmanager
def changed_outputs(lm: LanguageModel, functions: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Inside, what modules put out, by name, goes through a function of it."""

    def hook(function):
        def change(module, args, output):
            if isinstance(output, tuple):
                return (function(output[0].clone()), *output[1:])
            return function(output.clone())

        return change

    handles = [lm.model.get_submodule(name).register_forward_hook(hook(f)) for name, f in functions.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def save(lm: LanguageModel, folder: Path, **options: str) -> Path:
    """Write a model and its tokenizer into a folder, which is returned."""
    lm.model.save_pretrained(folder, **options)
    lm.tokenizer.save_pretrained(folder)
    return folder


def descent(lm: LanguageModel, layers: Sequence[int], rate: float = 0.1) -> Hypernetwork:
    """A hypernetwork that leaves gradients as they are, so that an edit is a step of gradient descent."""
    net = Hypernetwork.of(lm, layers, rank=8, edit_lr=-rate).requires_grad_(False)
    for network in net.networks.values():
        for normaliser in (network.x, network.delta):
            normaliser.count += 2
            normaliser.squares += 1
    return net
