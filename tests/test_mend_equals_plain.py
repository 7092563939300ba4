"""MEND's edits of many cases at once, against one backward pass and dense weights a case, in float64."""

from collections.abc import Sequence

import pytest
import torch

from aftershock.editors.mend import MendSettings
from aftershock.editors.mend.edit import Mend
from aftershock.lm.edits import EMPTY, select
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.lm.scoring import score
from aftershock.requests import Query
from benchmarks.plain import Plain
from benchmarks.plain_mend import mend
from tiers import of_families
from tiny import FAMILIES, requests, tiny

LAYERS = (1, 2)
ORDERS: Sequence[list[int]] = ([3], [4, 1], [0, 1, 2, 3, 4, 5, 6], [6, 2, 5, 0, 3, 1, 4])


def network(lm):
    """A hypernetwork that changes what it is given, with normalisers that have seen rows."""
    net = Hypernetwork.of(lm, LAYERS, rank=4, edit_lr=0.02).requires_grad_(False)
    torch.manual_seed(0)
    for part in net.networks.values():
        part.x.observe(torch.randn(40, len(part.x.mean), dtype=torch.float64))
        part.delta.observe(torch.randn(40, len(part.delta.mean), dtype=torch.float64) * 0.1)
        for layer in part.layers:
            for parameter in (layer.u, layer.bias, layer.scale, layer.shift):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return net


def compare(lm, delta, state, asked, case, changes, said):
    """One case's changes of every matrix, and what the model then says."""
    assert {d.module for d in delta} == set(changes)
    for mine in delta:
        wanted = changes[mine.module]
        assert wanted.norm() > 1e-3
        assert (mine.dense()[case] - wanted).norm() < 1e-6 * wanted.norm(), (case, mine.module)
    (found,) = score(lm, [Query(asked.text, asked.target_new, case)], state)
    assert found.token_logprobs == pytest.approx(said[0][0], abs=1e-5)


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_batches_of_cases_equal_cases_alone(family):
    lm = tiny(family)
    net, asked, plain = network(lm), requests(7), Plain(lm)
    editor = Mend(lm, MendSettings(layers=LAYERS), artifacts={"hypernetwork": net})
    wanted = []
    for request in asked:
        with mend(plain, request, net) as changes:
            wanted.append((changes, plain.score([request.text], [request.target_new])))
    for order in ORDERS:
        delta = editor.edit([[asked[i]] for i in order]).delta
        for case, i in enumerate(order):
            compare(lm, delta, delta, asked[i], case, *wanted[i])


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_second_edits_take_their_gradient_in_the_edited_model(family):
    lm = tiny(family)
    net, firsts, seconds, plain = network(lm), requests(7), requests(7, template=1), Plain(lm)
    editor = Mend(lm, MendSettings(layers=LAYERS), artifacts={"hypernetwork": net})
    first = editor.edit([[request] for request in firsts], EMPTY).delta
    for order in ORDERS[:3]:
        start = select(first, order)
        delta = editor.edit([[seconds[i]] for i in order], start).delta
        for case, i in enumerate(order):
            with mend(plain, firsts[i], net), mend(plain, seconds[i], net) as changes:
                said = plain.score([seconds[i].text], [seconds[i].target_new])
            compare(lm, delta, start + delta, seconds[i], case, changes, said)


def test_an_edit_takes_one_pass_each_way_and_is_undone():
    lm = tiny()
    plain, (request,) = Plain(lm), requests(1)
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    with mend(plain, request, network(lm)):
        assert any(not torch.equal(before[n], value) for n, value in lm.model.state_dict().items())
    assert all(torch.equal(before[n], value) for n, value in lm.model.state_dict().items())
    # the loss is of the whole text, its last token included
    assert (plain.work.forward, plain.work.backward) == (1, 1)
    assert plain.work.tokens == len(lm.encode([f"{request.text} {request.target_new}"])[0])
