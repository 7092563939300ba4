"""Every method with settings for tiny models, and what is asked of its edits."""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch

from aftershock.editors.contract import layers_of
from aftershock.editors.methods import find_methods, method_of, settings_of
from aftershock.lm.edits import State
from aftershock.lm.edits.state import in_weights
from aftershock.lm.hooks import record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.lm.statistics.null_space import decompose
from aftershock.lm.texts.tokens import locate
from aftershock.prompts import fill
from aftershock.requests import Query
from scoped import by_name
from tiny import CITIES, FAMILIES, NAMES, TEMPLATES, descent, in_turn, moments, next_log_probs, requests

CONTEXTS = [["{}"], ["It rains. {}", "As they say in Graz. {}"]]
GIVEN = os.environ.get("AFTERSHOCK_METHOD")
"""The path of a method that make check-method holds against the contract."""

METHODS = [GIVEN] if GIVEN else sorted(find_methods())


def edits_layers(method):
    """True if a method has layers to choose."""
    return hasattr(method_of(method).settings(), "layers")


def example(method):
    """Settings that edit a random model of three layers."""
    found = method_of(method)
    several = len(layers_of(found.settings())) > 1
    layers = {"layers": [0, 1] if several else [0]} if edits_layers(method) else {}
    return {**layers, **found.method.example}


FEW = 5
SETTINGS = {method: example(method) for method in {*find_methods(), *METHODS}}

STRONG = {
    "ft": {"layers": [1], "objective": "target_new", "steps": 5, "lr": 0.02, "norm_constraint": None},
    "rome": {"layers": [1], "steps": 12, "lr": 0.5},
    "memit": {"layers": [0, 1], "mom2_weight": 1e-8, "steps": 12, "lr": 0.5},
}
"""Settings with which a random model says what was written."""

REMEMBER = {"memit": {"previous_keys": True}, "encore": {"previous_keys": True}, "alphaedit": {}}
"""Methods that know the keys of earlier edits, and the settings with which they do."""


MAKERS = {
    "hypernetwork": lambda lm, layers, unedited: descent(lm, layers),
    "moments": lambda lm, layers, unedited: moments(unedited),
    "attention_moments": lambda lm, layers, unedited: moments(unedited, "attention"),
    "scope_models": lambda lm, layers, unedited: by_name(unedited, layers=unedited.n_layers, noise=0.02),
    "null_space": lambda lm, layers, unedited: decompose(moments(unedited)),
}
"""For each artifact, what makes it for a small model, of layers that are edited; last the unedited model."""


def able(methods):
    """Each family and each of `methods` once at least, in pairs that take turns; none that is excluded."""
    pairs = [
        (method, family) for method, family in in_turn(methods) if method_of(method).method.edits(family)
    ]
    return pairs + [(m, families_of(m, FAMILIES)[0]) for m in methods if m not in dict(pairs)]


def families_of(method, wanted=("gpt2", "llama")):
    """Those of the `wanted` families that a method edits, else the first that it does."""
    found = [family for family in wanted if method_of(method).method.edits(family)]
    return found or [next(family for family in FAMILIES if method_of(method).method.edits(family))]


def make(method, lm, contexts=CONTEXTS, seed=0, **changes):
    settings = settings_of(method, SETTINGS[method], changes)
    return built(method, lm, settings, contexts, seed=seed)


def make_brief(method, lm, **changes):
    """The editor with few steps, for all that does not depend on their number."""
    few = {"steps": FEW} if SETTINGS[method].get("steps", 0) > FEW else {}
    return make(method, lm, **few | changes)


def make_measured(method, lm):
    """The editor for a trained model: numbers of its example that can be measured are, on the model.

    Methods that optimise a value do so at the lowest layer, before attention has moved what a subject means.
    """
    defaults = method_of(method).settings()
    numbers = {name for name, value in SETTINGS[method].items() if isinstance(value, float)}
    changes = {name: "auto" for name in numbers if getattr(defaults, name) == "auto"}
    if hasattr(defaults, "clamp"):
        changes |= {"layers": [0], "steps": 25, "lr": 0.5}
    return make(method, lm, [["{}"]], **changes)


def built(method, lm, settings, contexts=CONTEXTS, unedited=None, seed=0):
    """The editor, with what it needs beside its settings; second moments are of `unedited`, if given."""
    layers = [layer for layer in layers_of(settings) if layer < lm.n_layers]
    needed = method_of(method).method.needs(settings)
    artifacts = {name: MAKERS[name](lm, layers, unedited or lm) for name in needed}
    return method_of(method).make(lm, settings, artifacts, seed, contexts)


def singles(n, template=0):
    return [[request] for request in requests(n, template)]


def questions(names=NAMES, cities=CITIES, cases=(0,)):
    """Queries for some cities after every prompt about some subjects, in each of some cases."""
    asked = product(TEMPLATES, names, cities, cases)
    return [Query(fill(template, name), city, case) for template, name, city, case in asked]


def log_probs(lm, cases, state):
    queries = [Query(case[0].text, case[0].target_new, i) for i, case in enumerate(cases)]
    return torch.tensor([s.logprob for s in score(lm, queries, state)])


def chosen(memory, indices):
    """The memory of some of the cases."""
    return memory and {name: tensor[list(indices)] for name, tensor in memory.items()}


# --- comparing changes -------------------------------------------------------------------------------------
def close(state, other, tolerance=1e-6):
    """True if two states make equal changes of weights, relative to their size."""
    assert [d.module for d in state] == [d.module for d in other]
    for one, two in zip(state, other, strict=True):
        difference = (one.dense() - two.dense()).flatten(1).norm(dim=1)
        if (difference > tolerance * two.dense().flatten(1).norm(dim=1).clamp(min=1e-12)).any():
            return False
    return True


def behaviour(lm: LanguageModel, state: State, n: int) -> torch.Tensor:
    """Log-probabilities of two targets after every prompt about some subjects, in each of `n` cases."""
    asked = [replace(query, case=case) for case in range(n) for query in questions(NAMES[:6], CITIES[:2])]
    return torch.tensor([s.logprob for s in score(lm, asked, state)]).reshape(n, -1)


def alike(lm: LanguageModel, state: State, other: State, tolerance=1e-6):
    """True if two states do the same: as changes of weights where they are such, else by what is said."""
    assert [len(delta) for delta in state] == [len(delta) for delta in other]
    if all(map(in_weights, (*state, *other))):
        return close(state, other, tolerance)
    n = len(state[0])
    return torch.allclose(behaviour(lm, state, n), behaviour(lm, other, n), rtol=0, atol=tolerance)


def identical(state: State, other: State) -> bool:
    """True if two states are bit-equal in all that they are made of."""
    return len(state) == len(other) and all(
        type(one) is type(two) and one.settings() == two.settings() and _equal(one.tensors(), two.tensors())
        for one, two in zip(state, other, strict=True)
    )


def same_memory(memory, other) -> bool:
    """True if two memories are bit-equal."""
    return _equal(memory or {}, other or {})


def _equal(some, others):
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def untouched(lm: LanguageModel, before) -> bool:
    """True if a model has the weights `before`, bit for bit, and no hook."""
    after = lm.model.state_dict()
    hooks = (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or "forward" in vars(module)
        for module in lm.model.modules()
    )
    return all(torch.equal(before[name], after[name]) for name in before) and not any(hooks)


def say(lm: LanguageModel, queries: Sequence[Query], state: State = ()) -> list[tuple[float, ...]]:
    """The log-probabilities of each query's tokens."""
    return [s.token_logprobs for s in score(lm, queries, state)]


def assert_written(method, lm, edited, request, solved, i=0):
    """Weights of `edited` put out the value that was solved for, in place of what `lm` put out.

    It is of the MLP, or of MEMIT's whole layer. A family that normalises its MLP's output has nothing that
    adds to its layer's as it is, so that MEMIT's value is the MLP's there too.
    """
    site = lm.layer(1) if method == "memit" and not lm.family.mlp_norm else lm.mlp(1)
    (row,) = locate(lm, [(request.prompt, request.subject)])
    outputs = []
    for model in (lm, edited):
        with record_activations(model, outputs=[site]) as seen:
            next_log_probs(model, row.ids)
        outputs.append(seen["out", site][0, row.subject])
    assert torch.allclose(solved["v0"][i], outputs[0], atol=1e-9)
    assert torch.allclose(solved["z" if method == "memit" else "v"][i], outputs[1], atol=1e-5)
    assert (outputs[1] - outputs[0]).norm() > 0.1
