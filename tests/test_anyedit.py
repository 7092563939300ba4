"""AnyEdit: a value in front of each window of an answer, against one that runs the whole model each time."""

import pytest
import torch

from aftershock.editors.anyedit.windows import Text
from aftershock.lm.hooks import record_activations
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.requests import EditRequest
from editing import make
from obvious import log_probs
from tiny import requests, tiny

LAYER = 1
SETTINGS = {"layers": [LAYER], "window": 2, "steps": 6, "lr": 0.3, "mom2_weight": 0.01, "enough": 0.0}
LONG = EditRequest("{} was born in", "Bob Stone", "Rome and then lives in Paris", "London")


def test_answers_are_cut_into_windows():
    text = Text.of(3, Pair((1, 2, 3), (4, 5, 6, 7, 8)), 2)
    assert text == Text(3, (1, 2, 3, 4, 5, 6, 7, 8), (2, 4, 6), ((4, 5), (6, 7), (8,)))
    assert Text.of(0, Pair((1,), (4, 5)), 40) == Text(0, (1, 4, 5), (0,), ((4, 5),))


def slow_values(lm, pair, window, settings):
    """One value after another by torch's Adam, with a hook on the layer and the whole text each time."""
    ids = [*pair.prompt, *pair.target]
    added: dict[int, torch.Tensor] = {}
    sizes = {}

    def add(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        sizes.update({i: hidden[0, i].detach().norm() for i in range(hidden.shape[1]) if i not in added})
        places = torch.arange(hidden.shape[1])[None, :, None]
        for place, value in added.items():
            hidden = hidden + (places == place) * value
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    hooks = {lm.layer(LAYER): add}
    for start in range(0, len(pair.target), window):
        place, size = len(pair.prompt) - 1 + start, len(pair.target[start : start + window])
        log_probs(lm.model, ids, hooks)
        value = torch.zeros(lm.d_model, dtype=lm.dtype, requires_grad=True)
        added[place] = value
        adam = torch.optim.Adam([value], lr=settings.lr)
        for step in range(settings.steps):
            log_p = log_probs(lm.model, ids, hooks)
            nll = -sum(log_p[place + i, ids[place + i + 1]] for i in range(size)) / size
            loss = nll + settings.weight_decay * value.norm() / sizes[place] ** 2
            if step == settings.steps - 1:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            limit = settings.clamp * sizes[place]
            with torch.no_grad():
                value *= min(1.0, float(limit / value.norm()))
        added[place] = value.detach()
    return added


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("clamp", [4.0, 0.05])
def test_values_and_the_change_are_those_of_the_slow_way(family, clamp):
    lm = tiny(family)
    editor = make("anyedit", lm, **SETTINGS, clamp=clamp)
    result = editor.edit([[LONG]])
    (pair,) = encode_pairs(lm, [(LONG.text, LONG.target_new)])
    wanted = slow_values(lm, pair, 2, editor.settings)
    (found,) = result.diagnostics[0]["delta"]
    assert len(wanted) == len(found) > 2
    assert torch.allclose(torch.stack(found), torch.stack(list(wanted.values())), atol=1e-9, rtol=1e-6)

    with record_activations(lm, [module := lm.projection(LAYER)]) as seen:
        lm.run(torch.tensor([[*pair.prompt, *pair.target]]), None)
    keys = seen["in", module][0].double()
    K, R = keys[list(wanted)].T, torch.stack(list(wanted.values())).double().T
    every = keys.T  # K_o K_o^T + K K^T
    change = R @ torch.linalg.solve(0.01 * editor.factor(LAYER).matrix + every @ every.T, K).T
    assert torch.allclose(result.delta[0].dense()[0].double(), change, rtol=1e-6, atol=1e-9)


def test_without_the_other_tokens_only_the_windows_keys_count():
    lm = tiny("llama")
    editor = make("anyedit", lm, **SETTINGS, other_tokens=False)
    result = editor.edit([[LONG], requests(2)])
    found = result.diagnostics[1]
    for case in range(2):
        K, R = found["K"][case].T, found["R"][case].T
        wanted = R @ torch.linalg.solve(0.01 * editor.factor(LAYER).matrix + K @ K.T, K).T
        assert torch.allclose(result.delta[0].dense()[case].double(), wanted, rtol=1e-6, atol=1e-9)


def test_windows_make_an_answer_likelier_than_one_value_does():
    lm = tiny("gpt2")
    common = {"layers": [LAYER], "steps": 25, "lr": 0.5, "mom2_weight": 1e-4, "weight_decay": 0.0}
    windows, one = (
        make("anyedit", lm, **common, clamp=40.0, window=size).edit([[LONG]]).losses[0] for size in (1, 40)
    )
    assert windows < one - 1
