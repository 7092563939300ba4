"""MEND: the hypernetwork, the gradients it is given, and edits with it, against slow and obvious code."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch

from aftershock.datasets.table import CONFLICT_STATES
from aftershock.editors.mend import MendSettings
from aftershock.editors.mend.edit import Mend
from aftershock.experiments.cases import run_cases
from aftershock.lm.edits import EMPTY, select
from aftershock.lm.networks.hypernetwork import (
    Hypernetwork,
    Normaliser,
    load_hypernetwork,
    matrices,
    save_hypernetwork,
)
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import EditRequest, Query
from benchmarks.plain import Plain
from benchmarks.plain_mend import mend
from editing import close, singles, untouched
from obvious import log_probs, of_target, off
from test_protocol import TEMPLATE_ROWS, tables
from tiers import of_families
from tiny import CITIES, FAMILIES, NAMES, ROUNDING, TEMPLATES, descent, low_rank, requests, tiny, written


def trained(lm, layers=(1, 2), seed=0):
    """A hypernetwork with random parameters and normalisers that have seen random rows."""
    net = Hypernetwork.of(lm, layers, rank=8, edit_lr=0.02).requires_grad_(False)
    g = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter += torch.randn(parameter.shape, generator=g, dtype=parameter.dtype) * 0.1
    for network in net.networks.values():
        for normaliser in (network.x, network.delta):
            normaliser.observe(torch.randn(20, len(normaliser.mean), generator=g).double() + 0.3)
    return net


def editor(lm, layers=(1, 2), net=None, **settings):
    return Mend(
        lm, MendSettings(layers=layers, **settings), artifacts={"hypernetwork": net or trained(lm, layers)}
    )


# --- the hypernetwork --------------------------------------------------------------------------------------
def test_the_normaliser_equals_welfords_update_row_by_row():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(23, 5, generator=g).double() * 3 + 7
    normaliser = Normaliser(5)
    for start, stop in ((0, 1), (1, 1), (1, 9), (9, 10), (10, 23)):
        normaliser.observe(rows[start:stop])
    mean, squares, count = rows[0].clone(), torch.zeros(5).double(), 1
    for row in rows[1:]:
        count += 1
        step = row - mean
        mean = mean + step / count
        squares = squares + step * (row - mean)
    assert normaliser.count == count
    assert torch.allclose(normaliser.mean, mean, rtol=1e-13)
    assert torch.allclose(normaliser.squares, squares, rtol=1e-12)
    wanted = (rows - rows.mean(0)) / (rows.std(0) + 1e-7)
    assert torch.allclose(normaliser(rows), wanted, rtol=1e-10)


def test_matrices_of_one_shape_share_a_network_and_have_a_mode_each():
    lm = tiny("llama")
    net = Hypernetwork.of(lm, [1, 2])
    assert list(net.shapes) == matrices(lm, [2, 1])
    assert len(net.networks) == 2
    assert sorted(net.modes[name] for name in net.shapes if "down_proj" not in name) == [0, 1, 2, 3]
    untouched = torch.randn(4, 16).double(), torch.randn(4, 40).double()
    network = net.network(matrices(lm, [1])[0])
    for normaliser, rows in zip((network.x, network.delta), untouched, strict=True):
        normaliser.observe(rows)
    for out, norm, rows in zip(network(*untouched, 0), (network.x, network.delta), untouched, strict=True):
        assert torch.equal(out, norm(rows))  # the identity, to begin with


# --- an edit -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_without_a_network_an_edit_is_a_step_of_gradient_descent(family):
    lm = tiny(family)
    several = [EditRequest(TEMPLATES[0], NAMES[2], city) for city in CITIES[:3]]
    cases = [singles(1)[0], several]
    result = editor(lm, net=descent(lm, (1, 2), rate=0.1)).edit(cases)
    for i, case in enumerate(cases):
        model = written(lm, (), 0).model
        weights = [model.get_submodule(d.module).weight.requires_grad_() for d in result.delta]
        pairs = encode_pairs(lm, [(r.text, r.target_new) for r in case])
        loss = -torch.cat([of_target(log_probs(model, [*p.prompt, *p.target]), p) for p in pairs]).mean()
        assert result.losses[i] == pytest.approx(loss.item(), rel=1e-6)
        for delta, gradient in zip(result.delta, torch.autograd.grad(loss, weights), strict=True):
            wanted = -0.1 * (gradient.T if lm.family.transposed else gradient)
            error = off(delta.dense()[i], wanted)
            assert error < max(1e-6, 10 * ROUNDING[family]), delta.module  # 1e-7 beside the deviation


# --- against one backward pass and dense weights a case ---------------------------------------------------
ORDERS = ([3], [4, 1], [0, 1, 2, 3, 4, 5, 6], [6, 2, 5, 0, 3, 1, 4])


@pytest.mark.parametrize("family", of_families(FAMILIES))
@pytest.mark.parametrize("chained", [False, True])
def test_batches_of_cases_equal_cases_alone_also_of_second_edits(family, chained):
    """One backward pass and dense weights a case; second edits take their gradient in the edited model."""
    lm = tiny(family)
    net, firsts, asked, plain = trained(lm), requests(7), requests(7, template=int(chained)), Plain(lm)
    first = editor(lm, net=net).edit(singles(7)).delta if chained else ()
    for order in ORDERS[: 3 if chained else 4]:
        start = select(first, order)
        delta = editor(lm, net=net).edit([[asked[i]] for i in order], start).delta
        for case, request in enumerate(asked[i] for i in order):
            before = mend(plain, firsts[order[case]], net) if chained else nullcontext()
            with before, mend(plain, request, net) as changes:
                ((wanted,),) = plain.score([request.text], [request.target_new])
            assert {d.module for d in delta} == set(changes)
            for mine in delta:
                assert changes[mine.module].norm() > 1e-3
                assert off(mine.dense()[case], changes[mine.module]) < 1e-9, (case, mine.module)
            (found,) = score(lm, [Query(request.text, request.target_new, case)], start + delta)
            assert found.token_logprobs == pytest.approx(wanted, abs=1e-5)


def test_an_edit_takes_one_pass_each_way_and_is_undone():
    lm = tiny()
    plain, (request,) = Plain(lm), requests(1)
    before = copy.deepcopy(lm.model.state_dict())
    with mend(plain, request, trained(lm)):
        assert not untouched(lm, before)
    assert untouched(lm, before)
    # the loss is of the whole text, its last token included
    assert (plain.work.forward, plain.work.backward) == (1, 1)
    assert plain.work.tokens == len(lm.encode([f"{request.text} {request.target_new}"])[0])


def test_the_learned_rates_are_scaled():
    lm = tiny()
    once, half = (editor(lm, lr_scale=scale).edit(singles(2)).delta for scale in (1.0, 0.5))
    assert all(torch.allclose(b.dense() * 2, a.dense(), rtol=1e-12) for a, b in zip(once, half, strict=True))


# --- the released variant ----------------------------------------------------------------------------------
def test_the_released_variant_starts_anew_and_depends_on_the_order():
    lm = tiny()
    one, two = singles(2)
    released = editor(lm, variant="released")
    assert released.in_order
    trained_on = released.net.statistics()
    result = released.edit([one])
    first = result.delta
    second = released.edit([two], memory=result.memory).delta
    assert all(torch.equal(seen, trained_on[name]) for name, seen in released.net.statistics().items())
    assert not close(first, editor(lm).edit([one]).delta, 1e-2)
    assert close(editor(lm, variant="released").edit([one]).delta, first)
    other = released.edit([two])
    assert not close(other.delta, second, 1e-3)
    assert not close(released.edit([one], memory=other.memory).delta, first, 1e-3)
    together = editor(lm, variant="released").edit([one, two]).delta  # one after the other, in their order
    assert close(select(together, [0]), first)
    assert close(select(together, [1]), second)


def test_a_first_edit_of_one_token_cannot_be_normalised():
    lm = tiny()
    mend = editor(lm, layers=(2,), variant="released")
    one = next(c for c in CITIES if len(encode_pairs(lm, [("It is", c)])[0].target) == 1)
    result = mend.edit([[EditRequest(TEMPLATES[0], NAMES[0], one)]])
    assert "nothing can be normalised after 1 tokens" in result.reasons[0]
    assert all(not delta.dense().any() for delta in result.delta)


def test_the_protocol_gives_a_sequential_editor_one_case_at_a_time():
    lm, calls = tiny(), []

    class Spy(Mend):
        def edit(self, cases, state=EMPTY, memory=None):
            calls.append(([case[0].subject for case in cases], memory is not None))
            return super().edit(cases, state, memory)

    mend = Spy(lm, MendSettings(layers=(1, 2), variant="released"), artifacts={"hypernetwork": trained(lm)})
    _, telemetry = run_cases(lm, mend, *tables(3), TEMPLATE_ROWS, CONFLICT_STATES[:2])
    assert [names for names, _ in calls] == [[name] for name in NAMES[:3] for _ in ("e1", "e2")]
    assert [knows for _, knows in calls] == [False] + [True] * 5  # of the edits before
    assert telemetry["reason"].isna().all()


# --- bad input ---------------------------------------------------------------------------------------------
def test_a_case_without_a_finite_loss_fails_alone_and_is_not_normalised_with():
    lm = tiny()
    bad = low_rank(lm, 1, 3)
    bad.U[2] = math.inf
    mend = editor(lm, variant="released")
    result = mend.edit(singles(3), (bad,))
    assert [reason is None for reason in result.reasons] == [True, True, False]
    assert "loss of the edit was nan" in result.reasons[2]
    assert all(torch.isfinite(delta.dense()).all() for delta in result.delta)
    assert all(not delta.dense()[2].any() for delta in result.delta)
    assert all(network.x.mean.isfinite().all() for network in mend.net.networks.values())


def test_a_file_comes_back_and_one_of_another_model_is_refused(tmp_path):
    lm, path = tiny(), tmp_path / "hypernetwork.safetensors"
    net = trained(lm)
    save_hypernetwork(net, path, "abc", {"rule": "train_mend"})
    again = load_hypernetwork(path, lm, "abc")
    assert list(again.shapes.items()) == list(net.shapes.items())
    stored, found = net.state_dict(), again.state_dict()
    assert set(stored) == set(found)
    assert all(torch.equal(value, found[name]) for name, value in stored.items())
    assert not any(parameter.requires_grad for parameter in again.parameters())
    with pytest.raises(ValueError, match=r"trained for a model with weights_sha256 abc, not abd; delete it"):
        load_hypernetwork(path, lm, "abd")


def test_other_layers_and_a_missing_hypernetwork_are_refused():
    lm = tiny()
    with pytest.raises(ValueError, match="needs a hypernetwork: train one for this model first"):
        Mend(lm, MendSettings(layers=(1,)))
    with pytest.raises(ValueError, match=r"the settings ask for .*h\.0\.mlp.*; set the same layers"):
        Mend(lm, MendSettings(layers=(0, 1)), artifacts={"hypernetwork": trained(lm)})
    with pytest.raises(ValueError, match="nothing can be normalised after 0 tokens"):
        Mend(lm, MendSettings(layers=(1,)), artifacts={"hypernetwork": Hypernetwork.of(lm, [1])}).edit(
            singles(1)
        )
