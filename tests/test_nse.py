"""NSE: least squares on some neurons, in passes that take the requests which still need it."""

import pytest
import torch

from aftershock.editors import previous_keys
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.editors.request_batch import RequestBatch
from aftershock.lm.edits import EMPTY
from editing import close, make
from obvious import off
from tiny import requests, tiny

WEIGHT = {"mom2_weight": 0.01}


def layers_of(result):
    """Diagnostics of each layer of each pass."""
    return [found for found in result.diagnostics[1:] if "pass" in found]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_one_pass_over_all_neurons_is_memit(family):
    lm, cases = tiny(family), [requests(2), requests(1, template=1)]
    one = make("nse", lm, layers=[0, 1], max_iterations=2, **WEIGHT).edit(cases)
    assert close(one.delta, make("memit", lm, layers=[0, 1], **WEIGHT).edit(cases).delta, 1e-9)


@pytest.mark.parametrize("share", [16, 10**9])  # earlier keys as they are, and as a matrix
def test_only_the_neurons_that_fire_most_are_written(share, monkeypatch):
    monkeypatch.setattr(previous_keys, "SHARE", share)
    lm = tiny("llama")
    editor = make("nse", lm, layers=[0], neuron_share=0.6, max_iterations=2, **WEIGHT)
    first = editor.edit([requests(2), requests(2, template=1)])
    second = editor.edit([requests(1, template=2), requests(2, template=2)], first.delta, first.memory)
    (found,) = layers_of(second)
    C = editor.factor(0).matrix
    for case in range(2):
        K, R = found["K"][case].T, found["R"][case].T
        s = K.abs().sum(dim=1)
        order = s.argsort(descending=True).tolist()
        chosen, total = [], 0.0
        for neuron in order:
            total += float(s[neuron])
            if total > 0.6 * float(s.sum()):
                break
            chosen.append(neuron)
        assert 1 < len(chosen) < len(s)
        known = PreviousKeys.read(first.memory, 0, lm.device).total(found["K"])[case]
        A = (0.01 * C + known)[chosen][:, chosen] + K[chosen] @ K[chosen].T
        wanted = torch.zeros(R.shape[0], len(s), dtype=torch.float64)
        wanted[:, chosen] = R @ torch.linalg.solve(A, K[chosen]).T
        change = second.delta[0].dense()[case].double()
        assert off(change, wanted) < 1e-6
        assert not change[:, [i for i in range(len(s)) if i not in chosen]].any()


def test_a_neuron_above_the_share_is_written_by_itself():
    editor = make("nse", tiny(), layers=[0], neuron_share=0.3)
    K = torch.tensor([[[0.0, -9.0, 1.0]], [[1.0, 1.0, 1.0]]]).double()
    assert editor.neurons(K).tolist() == [[False, True, False], [True, False, False]]
    assert make("nse", tiny(), layers=[0]).neurons(K).all()


def test_at_a_share_of_one_the_released_sum_is_in_float32_by_the_number_of_threads():
    g = torch.Generator().manual_seed(0)
    for K in (torch.rand(1, 1, 3000, generator=g).double(), torch.full((1, 1, 3000), 0.1).double()):
        scores = K[0, 0].float()
        ordered = scores.sort(descending=True).values
        for threads in (1, 2, 3):
            total = torch.stack([part.sum() for part in scores.chunk(threads)]).sum()
            within = int((ordered.cumsum(0) <= total).nonzero()[-1, 0]) + 1
            released = make("nse", tiny(), layers=[0], variant="released", threads=threads)
            assert int(released.neurons(K).sum()) == within
            assert make("nse", tiny(), layers=[0], threads=threads).neurons(K).all()


def test_a_second_pass_takes_those_that_are_still_far():
    lm, cases = tiny("gpt2"), [requests(3)]
    every = make("nse", lm, layers=[0, 1], **WEIGHT).edit(cases)
    before, after = (found["distance"] for found in layers_of(every)[::2])
    assert (after < before).all()
    assert [found["pass"] for found in layers_of(every)] == [0, 0, 1, 1]
    limit = float(after.sort().values[1])  # two are as close as this
    some = make("nse", lm, layers=[0, 1], min_distance=limit, **WEIGHT).edit(cases)
    assert torch.equal(layers_of(some)[2]["taken"], after > limit)
    assert some.delta[0].dense().norm() > 0
    none = make("nse", lm, layers=[0, 1], min_distance=float(after.max()), **WEIGHT).edit(cases)
    once = make("nse", lm, layers=[0, 1], max_iterations=2, **WEIGHT).edit(cases)
    assert close(none.delta, once.delta)


def test_what_is_too_far_is_not_written_and_a_case_of_nothing_else_says_so():
    lm, cases = tiny("gpt2"), [requests(2), requests(1, template=1)]
    found = layers_of(make("nse", lm, layers=[0], **WEIGHT).edit(cases))[0]["distance"]
    limit = float(found[:2].max())
    result = make("nse", lm, layers=[0], max_distance=limit, **WEIGHT).edit(cases)
    first = layers_of(result)[0]
    assert torch.equal(first["taken"], found < limit)
    assert not first["K"][0, int(found[:2].argmax())].any()
    result = make("nse", lm, layers=[0], max_distance=0.9 * float(found.min()), **WEIGHT).edit(cases)
    assert all("raise max_distance" in reason for reason in result.reasons)
    assert not any(delta.dense().any() for delta in result.delta)


def test_values_are_those_of_the_unedited_model_and_keys_those_of_the_edited_one():
    lm, cases, more = tiny("llama"), [requests(2)], [requests(2, template=1)]
    editor = make("nse", lm, layers=[0, 1], min_distance=1e-3, neuron_share=0.8, **WEIGHT)
    first = editor.edit(cases)
    second = editor.edit(more, first.delta, first.memory)
    assert torch.equal(second.diagnostics[0]["z"], editor.edit(more).diagnostics[0]["z"])
    batch = RequestBatch.of(more, "joint", lm.device)
    for layer in (0, 1):
        keys = editor._look(batch, layer, first.delta + second.delta, None)[0]
        known = PreviousKeys.read(first.memory, layer, lm.device).add(keys[None].double())
        ours = PreviousKeys.read(second.memory, layer, lm.device)
        assert off(ours.total(keys[None].double()), known.total(keys[None].double())) < 1e-9
    assert make("nse", lm, layers=[0], previous_keys=False).edit(cases, EMPTY).memory is None
