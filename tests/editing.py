"""Every method with settings for tiny models, and what is asked of its edits."""

import os

import torch

from aftershock.editors.methods import find_methods, method_of, settings_of
from aftershock.lm.null_space import decompose
from aftershock.lm.scoring import score
from aftershock.requests import Query
from tiny import descent, moments, requests

CONTEXTS = [["{}"], ["It rains. {}", "As they say in Graz. {}"]]
GIVEN = os.environ.get("AFTERSHOCK_METHOD")
"""The path of a method that make check-method holds against the contract."""

METHODS = [GIVEN] if GIVEN else sorted(find_methods())


def example(method):
    """Settings that edit a random model of three layers."""
    found = method_of(method)
    return {"layers": [0, 1] if len(found.settings().layers) > 1 else [0], **found.method.example}


SETTINGS = {method: example(method) for method in {*find_methods(), *METHODS}}

STRONG = {
    "ft": {"layers": [1], "objective": "target_new", "steps": 5, "lr": 0.02, "norm_constraint": None},
    "rome": {"layers": [1], "steps": 12, "lr": 0.5},
    "memit": {"layers": [0, 1], "mom2_weight": 1e-8, "steps": 12, "lr": 0.5},
}
"""Settings with which a random model says what was written."""


def make(method, lm, contexts=CONTEXTS, **changes):
    settings = settings_of(method, SETTINGS[method], changes)
    return built(method, lm, settings, contexts)


def built(method, lm, settings, contexts=CONTEXTS, unedited=None):
    """The editor, with what it needs beside its settings; second moments are of `unedited`, if given."""
    layers = [layer for layer in settings.layers if layer < lm.n_layers]
    makers = {"hypernetwork": lambda: descent(lm, layers), "moments": lambda: moments(unedited or lm)}
    makers["null_space"] = lambda: decompose(moments(unedited or lm))
    artifacts = {name: makers[name]() for name in method_of(method).method.needs(settings)}
    return method_of(method).load()(lm, settings, artifacts, contexts=contexts)


def singles(n, template=0):
    return [[request] for request in requests(n, template)]


def log_probs(lm, cases, state):
    queries = [Query(case[0].text, case[0].target_new, i) for i, case in enumerate(cases)]
    return torch.tensor([s.logprob for s in score(lm, queries, state)])


def close(state, other, tolerance=1e-6):
    """Whether two states make equal changes, relative to their size."""
    assert [d.module for d in state] == [d.module for d in other]
    for one, two in zip(state, other, strict=True):
        difference = (one.dense() - two.dense()).flatten(1).norm(dim=1)
        if (difference > tolerance * two.dense().flatten(1).norm(dim=1).clamp(min=1e-12)).any():
            return False
    return True
