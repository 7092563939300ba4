"""Values that edits write, against a slow, obvious optimisation."""

import math

import pytest
import torch

from aftershock.lm.hooks import record_activations
from aftershock.lm.optimisation import values
from aftershock.lm.optimisation.objective import Objective
from aftershock.lm.optimisation.values import solve_values
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import locate
from aftershock.requests import EditRequest, Query
from obvious import obvious_value
from tiers import once_each
from tiny import (
    ROUNDING,
    dense,
    in_turn,
    low_rank,
    requests,
    tiny,
    written,
)

CONTEXTS = ["{}", "It rains. {}", "As they say in the city of Graz. {}"]
BASE = {"steps": 5, "lr": 0.3, "weight_decay": 0.4, "clamp": 4.0, "kl_factor": 0.3}


@pytest.mark.parametrize(("site", "family"), once_each(in_turn(["mlp", "layer"])))
def test_values_equal_an_obvious_optimisation(site, family):
    lm, asked = tiny(family), requests(3)
    found = solve_values(lm, asked, CONTEXTS, Objective(0, site, **BASE))
    for i, request in enumerate(asked):
        v0, delta, losses = obvious_value(lm, request, CONTEXTS, 0, site, BASE)
        assert torch.allclose(found.init[i], v0, atol=ROUNDING[family])
        assert torch.allclose(found.delta[i], delta, atol=100 * ROUNDING[family]), request
        assert found.losses[:, i].tolist() == pytest.approx(losses, abs=10 * ROUNDING[family])
        assert found.updates[i] == BASE["steps"] - 1
    assert found.final_losses.tolist() == found.losses[-1].tolist()


def test_each_value_is_clamped_and_stopped_by_itself(monkeypatch):
    lm, asked = tiny(), requests(6)
    monkeypatch.setattr(values, "ENOUGH", 5.7)  # a random model this small never says a target for sure
    settings = {**BASE, "steps": 15, "weight_decay": 0.0, "kl_factor": 0.0, "clamp": 9.0, "lr": 1.0}
    free = solve_values(lm, asked, CONTEXTS[:1], Objective(0, "layer", **settings))
    norms = free.delta.norm(dim=1) / free.init.norm(dim=1)
    assert len(set(free.updates.tolist())) > 1, "some should stop early"
    assert free.losses.isnan().sum(dim=0).tolist() == (settings["steps"] - 1 - free.updates).tolist()
    for i, request in enumerate(asked):
        _, delta, losses = obvious_value(lm, request, CONTEXTS[:1], 0, "layer", settings)
        assert len(losses) == free.updates[i] + 1
        assert torch.allclose(free.delta[i], delta, atol=1e-7)
    tight = solve_values(lm, asked, CONTEXTS[:1], Objective(0, "layer", **{**settings, "clamp": 0.5}))
    moved = tight.updates > 0
    assert norms[moved].min() > 0.5
    assert torch.allclose(tight.delta.norm(dim=1)[moved], 0.5 * tight.init.norm(dim=1)[moved])
    assert not tight.delta[~moved].any()


def test_values_do_not_depend_on_batches_or_company(monkeypatch):
    lm, asked = tiny(), requests(7)
    objective = Objective(0, "mlp", **BASE)
    together = solve_values(lm, asked, CONTEXTS, objective)
    monkeypatch.setattr(values, "CPU_TOKENS", 60)
    assert torch.allclose(solve_values(lm, asked, CONTEXTS, objective).delta, together.delta, atol=1e-9)
    backwards = solve_values(lm, asked[::-1], CONTEXTS, objective)
    assert torch.allclose(backwards.delta.flip(0), together.delta, atol=1e-9)
    assert torch.allclose(
        solve_values(lm, asked[3:4], CONTEXTS, objective).delta[0], together.delta[3], atol=1e-9
    )


def test_values_start_from_their_case_of_the_state():
    lm, asked = tiny(), requests(3)
    state = (low_rank(lm, 0, 2), dense(lm, 1, 2))
    found = solve_values(lm, asked, CONTEXTS, Objective(0, "mlp", **BASE), state, [1, 0, 1])
    for i, case in enumerate([1, 0, 1]):
        _, delta, _ = obvious_value(written(lm, state, case), asked[i], CONTEXTS, 0, "mlp", BASE)
        assert torch.allclose(found.delta[i], delta, atol=1e-7)


def test_loss_can_be_read_from_an_earlier_layer():
    lm, asked = tiny(), requests(2)
    last = solve_values(lm, asked, CONTEXTS, Objective(0, "layer", **BASE, loss_layer=2))
    assert torch.allclose(last.delta, solve_values(lm, asked, CONTEXTS, Objective(0, "layer", **BASE)).delta)
    lens = solve_values(
        lm, asked, CONTEXTS, Objective(0, "layer", **{**BASE, "kl_factor": 0.0}, loss_layer=0)
    )
    request = asked[0]  # its target is one token
    prompt = locate(lm, [(request.prompt, request.subject)])[0]
    with record_activations(lm, outputs=[lm.layer(0)]) as seen, torch.no_grad():
        ids, mask = lm.pad([prompt.ids])
        lm.run(ids, mask)
    norm = lm.model.get_submodule(lm.family.norm)
    logits = lm.logits(norm(seen["out", lm.layer(0)][0, -1]))
    (target,) = lm.encode_targets([request.target_new])
    plain = solve_values(lm, asked, ["{}"], Objective(0, "layer", **{**BASE, "kl_factor": 0.0}, loss_layer=0))
    assert len(target) == 1
    assert plain.losses[0, 0].item() == pytest.approx(-logits.log_softmax(-1)[target[0]].item())
    assert not torch.allclose(lens.delta, last.delta)


def test_a_broken_value_fails_alone():
    lm, asked = tiny(), requests(3)
    state = (low_rank(lm, 0, 3),)
    state[0].U[1] = math.nan
    found = solve_values(lm, asked, CONTEXTS, Objective(0, "mlp", **BASE), state, [0, 1, 2])
    assert found.reasons[0] is None
    assert found.reasons[2] is None
    assert found.reasons[1] == "the loss of the value was nan at step 0"
    alone = solve_values(lm, [asked[0], asked[2]], CONTEXTS, Objective(0, "mlp", **BASE), state, [0, 2])
    assert torch.allclose(found.delta[[0, 2]], alone.delta, atol=1e-9)


def test_labels_with_braces_are_data():
    lm = tiny()
    request = EditRequest("{} was born in", "{} {0}", "{x}")
    found = solve_values(lm, [request], ["{}"], Objective(0, "mlp", **BASE))
    assert found.reasons == [None]
    assert score(lm, [Query(request.text, request.target_new)])
