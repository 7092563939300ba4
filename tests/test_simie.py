"""SimIE: recursive least squares over changes that another method makes of the unedited model."""

import pytest
import torch

from aftershock.editors import previous_keys
from aftershock.editors.changes import change_of
from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.edits import Dense
from aftershock.lm.hooks import record_activations
from editing import make
from obvious import off
from tiny import requests, tiny

BASE = {"steps": 6, "lr": 0.5, "clamp": 4.0}


def edits():
    """Three edits of two cases; the second case has two requests at first."""
    return [
        [
            requests(4)[i : i + 1],
            requests(6, template=1)[i : i + 2] if i == 0 else requests(6, 1)[i + 1 : i + 2],
        ]
        for i in range(3)
    ]


def inputs(lm, layer, case):
    """Return the inputs of a layer's matrix at every token of texts and targets, one text at a time."""
    found = []
    for request in case:
        ids = torch.tensor(lm.encode([f"{request.text} {request.target_new}"]))
        with torch.no_grad(), record_activations(lm, inputs=[lm.projection(layer)]) as seen:
            lm.run(ids, None)
        found.append(seen["in", lm.projection(layer)][0])
    return torch.cat(found).double()


@pytest.mark.parametrize(("base", "layers"), [("rome", [1]), ("memit", [0, 1])])
@pytest.mark.parametrize("share", [1, 10**9])  # earlier keys as they are, and as a matrix
def test_weights_after_each_edit_are_those_of_the_recursion(base, layers, share, monkeypatch):
    monkeypatch.setattr(previous_keys, "SHARE", share)
    lm = tiny("llama")
    editor = make("simie", lm, layers=layers, base=base, base_settings=BASE, ridge=0.7)
    alone = make(base, lm, **{**BASE, "layers": layers})
    state, memory = (), None
    weights = {layer: torch.zeros_like(lm.weight(lm.projection(layer))).double() for layer in layers}
    P = {layer: 0.7 * torch.eye(lm.weight(lm.projection(layer)).shape[1]).double() for layer in layers}
    for cases in edits():
        result = editor.edit(cases, state, memory)
        state, memory = state + result.delta, result.memory
        own = settings_of(base, BASE, {"layers": layers})
        plain = method_of(base).make(lm, own, alone.artifacts, 0, alone.contexts).edit(cases[1:])
        for layer in layers:
            K = inputs(lm, layer, cases[1])
            aim = change_of(lm.projection(layer), plain.delta).dense()[0].double()
            P[layer] = P[layer] + K.T @ K
            weights[layer] = weights[layer] + (aim - weights[layer]) @ K.T @ K @ torch.linalg.inv(P[layer])
            found = change_of(lm.projection(layer), state).dense()[1]
            assert off(found, weights[layer]) < 1e-6


def test_a_change_of_a_bias_is_refused():
    editor = make("simie", tiny("gpt2"), layers=[1], base_settings=BASE)
    found = editor.base.edit([requests(1)])
    weight = found.delta[0].dense()
    object.__setattr__(
        found, "delta", (Dense(found.delta[0].module, weight, torch.ones(1, weight.shape[1])),)
    )
    editor.base.edit = lambda cases: found
    with pytest.raises(ValueError, match="rome changes more than matrices"):
        editor.edit([requests(1)])
