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
from obvious import check_values
from tiers import of_families, once_each
from tiny import FAMILIES, NAMES, ROUNDING, dense, in_turn, low_rank, requests, tiny

CONTEXTS = ["{}", "It rains. {}", "As they say in the city of Graz. {}"]
BASE = {"steps": 5, "lr": 0.3, "weight_decay": 0.4, "clamp": 4.0, "kl_factor": 0.3}
TWO = {**BASE, "steps": 4, "clamp": 1.5, "nll_factor": 0.8}
"""Settings of two values, of attention and MLP."""
SAID = ("Oslo", "Old Mill Town", "Rome", "Greenfield")


@pytest.mark.parametrize(("site", "family"), once_each(in_turn(["mlp", "layer"])))
def test_values_equal_an_obvious_optimisation(site, family):
    lm, asked, rounding = tiny(family), requests(3), ROUNDING[family]
    found = check_values(lm, asked, CONTEXTS, (0, site), BASE, 100 * rounding, losses=10 * rounding)
    assert found.final_losses.tolist() == found.losses[-1].tolist()


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_two_values_equal_an_obvious_optimisation(family):
    check_values(
        tiny(family), requests(2), CONTEXTS, (1, "both"), {**TWO, "kl_enough": 0.01}, 1e3 * ROUNDING[family]
    )


@pytest.mark.parametrize("layer", [0, 2])
def test_two_values_of_the_first_and_the_last_layer(layer):
    """Only prompts that end in their subject have a say of what the last layer does there."""
    asked = [EditRequest("Home is {}", NAMES[0], "Oslo"), EditRequest("So is {}", NAMES[3], "Graz")]
    check_values(tiny(), asked, CONTEXTS, (layer, "both"), TWO, 1e-7, losses=1e-8)


def test_each_value_is_clamped_and_stopped_by_itself(monkeypatch):
    lm, asked = tiny(), requests(6)
    monkeypatch.setattr(values, "ENOUGH", 5.7)  # a random model this small never says a target for sure
    settings = {**BASE, "steps": 15, "weight_decay": 0.0, "kl_factor": 0.0, "clamp": 9.0, "lr": 1.0}
    free = check_values(lm, asked, CONTEXTS[:1], (0, "layer"), settings, 1e-7)
    norms = free.delta.norm(dim=1) / free.init.norm(dim=1)
    assert len(set(free.updates.tolist())) > 1, "some should stop early"
    assert free.losses.isnan().sum(dim=0).tolist() == (settings["steps"] - 1 - free.updates).tolist()
    tight = solve_values(lm, asked, CONTEXTS[:1], Objective(0, "layer", **{**settings, "clamp": 0.5}))
    moved = tight.updates > 0
    assert norms[moved].min() > 0.5
    assert torch.allclose(tight.delta.norm(dim=1)[moved], 0.5 * tight.init.norm(dim=1)[moved])
    assert not tight.delta[~moved].any()


@pytest.mark.parametrize("enough", [1e-3, 20.0])
def test_a_target_that_is_said_everywhere_weighs_a_tenth_and_ends_where_the_divergence_is_small(enough):
    """The released code compares mean probabilities of the target and of the likeliest tokens, as here."""
    lm, contexts = tiny(), CONTEXTS[:2]
    asked = [EditRequest("Home is {}", name, city) for name, city in zip(NAMES[:4], SAID, strict=True)]
    eager = {"steps": 12, "lr": 1.0, "weight_decay": 0.05, "clamp": 30.0, "kl_factor": 0.02}
    found = check_values(lm, asked, contexts, (1, "both"), {**eager, "kl_enough": enough}, 1e-6)
    free = solve_values(lm, asked, contexts, Objective(1, "both", **eager))
    assert (found.updates < free.updates).any() == (enough > 1)
    assert not torch.allclose(found.delta, free.delta), "some target should be said"


@pytest.mark.parametrize(
    ("where", "settings"),
    [((0, "mlp"), BASE), ((1, "both"), TWO), ((1, "both"), {**TWO, "lr": 2.0, "clamp": 0.3})],
)
def test_values_start_from_their_case_of_the_state_in_batches_of_any_size(where, settings, monkeypatch):
    monkeypatch.setattr(values, "CPU_TOKENS", 60)  # several batches
    lm = tiny()
    state, cases = (low_rank(lm, 0, 2), dense(lm, 1, 2)), [1, 0, 1]
    found = check_values(lm, requests(3), CONTEXTS, where, settings, 1e-7, state=state, cases=cases)
    share = found.delta.norm(dim=-1) / found.init.norm(dim=-1)  # of two values, each is clamped by itself
    assert share.max() <= settings["clamp"] + 1e-9
    if settings["clamp"] == 0.3:
        assert torch.isclose(share, torch.full_like(share, 0.3)).any(dim=0).all()


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
