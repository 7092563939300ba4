"""PMET: values of attention and MLP, and their writing, against slow, obvious versions."""

import math

import pytest
import torch

from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.optimisation.objective import Objective
from aftershock.lm.optimisation.values import solve_values
from aftershock.lm.statistics.moments import Moment
from aftershock.requests import EditRequest
from editing import make, singles
from obvious import obvious_value, value_texts
from tiers import of_families, once_each
from tiny import FAMILIES, NAMES, ROUNDING, in_turn, low_rank, moments, requests, tiny, written

CONTEXTS = ["{}", "It rains. {}", "As they say in the city of Graz. {}"]
KINDS = [CONTEXTS[:1], CONTEXTS[1:]]
BASE = {"steps": 4, "lr": 0.3, "weight_decay": 0.4, "clamp": 1.5, "kl_factor": 0.3, "nll_factor": 0.8}
SAID = ("Oslo", "Old Mill Town", "Rome", "Greenfield")
EAGER = {"steps": 12, "lr": 1.0, "weight_decay": 0.05, "clamp": 30.0, "kl_factor": 0.02, "nll_factor": 1.0}
"""Settings with which a random model comes to say some targets."""


# --- values ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_two_values_equal_an_obvious_optimisation(family):
    lm, asked = tiny(family), requests(2)
    objective = Objective(1, "both", **BASE, kl_enough=0.01)
    found = solve_values(lm, asked, CONTEXTS, objective)
    for i, request in enumerate(asked):
        v0, delta, losses = obvious_value(lm, request, CONTEXTS, 1, "both", {**BASE, "kl_enough": 0.01})
        assert torch.allclose(found.init[i], v0, atol=ROUNDING[family])
        assert torch.allclose(found.delta[i], delta, atol=1e3 * ROUNDING[family])
        assert found.losses[:, i].tolist() == pytest.approx(losses, abs=1e-7)
        alone = solve_values(lm, [request], CONTEXTS, objective)
        assert torch.allclose(alone.delta[0], found.delta[i], atol=1e-9)


@pytest.mark.parametrize("layer", [0, 2])
def test_values_of_the_first_and_the_last_layer(layer):
    """Only prompts that end in their subject have a say of what the last layer does there."""
    lm, asked = (
        tiny(),
        [EditRequest("Home is {}", NAMES[0], "Oslo"), EditRequest("So is {}", NAMES[3], "Graz")],
    )
    found = solve_values(lm, asked, CONTEXTS, Objective(layer, "both", **BASE))
    for i, request in enumerate(asked):
        _, delta, losses = obvious_value(lm, request, CONTEXTS, layer, "both", BASE)
        assert torch.allclose(found.delta[i], delta, atol=1e-7)
        assert found.losses[:, i].tolist() == pytest.approx(losses, abs=1e-8)


def test_two_values_start_from_their_case_of_the_state():
    lm, asked = tiny(), requests(3)
    state = (low_rank(lm, 0, 2), low_rank(lm, 1, 2, seed=1))
    found = solve_values(lm, asked, CONTEXTS, Objective(1, "both", **BASE), state, [1, 0, 1])
    for i, case in enumerate([1, 0, 1]):
        _, delta, _ = obvious_value(written(lm, state, case), asked[i], CONTEXTS, 1, "both", BASE)
        assert torch.allclose(found.delta[i], delta, atol=1e-7)


@pytest.mark.parametrize("enough", [1e-3, 20.0])
def test_a_target_that_is_said_everywhere_weighs_a_tenth_and_ends_where_the_divergence_is_small(enough):
    """The released code compares mean probabilities of the target and of the likeliest tokens, as here."""
    lm, contexts = tiny(), CONTEXTS[:2]
    asked = [EditRequest("Home is {}", name, city) for name, city in zip(NAMES[:4], SAID, strict=True)]
    settings = {**EAGER, "kl_enough": enough}
    found = solve_values(lm, asked, contexts, Objective(1, "both", **settings))
    free = solve_values(lm, asked, contexts, Objective(1, "both", **EAGER))
    for i, request in enumerate(asked):
        _, delta, losses = obvious_value(lm, request, contexts, 1, "both", settings)
        assert found.updates[i] == len(losses) - 1
        assert torch.allclose(found.delta[i], delta, atol=1e-6)
        alone = solve_values(lm, [request], contexts, Objective(1, "both", **settings))
        assert torch.allclose(alone.delta[0], found.delta[i], atol=1e-9)
    ended = found.updates < free.updates
    assert ended.any() == (enough > 1)
    assert not torch.allclose(found.delta, free.delta), "some target should be said"


def test_each_of_two_values_is_clamped_by_itself():
    lm, asked = tiny(), requests(4)
    tight = {**BASE, "lr": 2.0, "clamp": 0.3, "weight_decay": 0.0}
    found = solve_values(lm, asked, CONTEXTS[:1], Objective(1, "both", **tight))
    share = found.delta.norm(dim=2) / found.init.norm(dim=2)
    assert share.max() <= 0.3 + 1e-9
    assert torch.isclose(share, torch.full_like(share, 0.3)).any(dim=0).all()


# --- writing -----------------------------------------------------------------------------------------------
MODULES = [("mlp",), ("attention",), ("attention", "mlp"), ("mlp", "attention"), ("attention", "mlp")]


def pmet(lm, **changes):
    return make("pmet", lm, KINDS, layers=[0, 1], mom2_weight=0.5, **BASE, **changes)


def at_subject(lm, request, context, module):
    """Input and output of a module at the subject of the prompt after a context."""
    ids, at = value_texts(lm, request, [context])[0]
    seen = []
    handle = lm.model.get_submodule(module).register_forward_hook(
        lambda module, args, made: seen.append((args[0][0, at], made[0, at]))
    )
    with torch.no_grad():
        lm.model(input_ids=torch.tensor([ids]))
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("modules", "family"), once_each(in_turn([*MODULES, ("mlp", "attention"), ("attention", "mlp")]))
)
def test_an_edit_equals_one_written_into_the_weights_module_by_module(modules, family):
    lm, case = tiny(family), requests(3)
    editor = pmet(lm, modules=modules)
    found = editor.edit([case])
    targets = torch.stack(
        [sum(obvious_value(lm, r, CONTEXTS, 1, "both", {**BASE, "kl_enough": 0.01})[:2]) for r in case]
    )
    names = {"attention": lm.attention_projection, "mlp": lm.projection}
    edited = written(lm, (), 0)
    deltas = iter(found.delta)
    for left, layer in ((2, 0), (1, 1)):
        for part in modules:
            module, last = names[part](layer), names[part](1)
            keys = []
            for request in case:
                means = [
                    torch.stack([at_subject(edited, request, c, module)[0] for c in kind]).mean(dim=0)
                    for kind in KINDS
                ]
                keys.append(torch.stack(means).mean(dim=0))
            K = torch.stack(keys).T
            now = torch.stack([at_subject(edited, request, "{}", last)[1] for request in case])
            R = (targets[:, ("attention", "mlp").index(part)] - now).T / math.sqrt(left)
            change = R @ K.T @ torch.linalg.inv(K @ K.T + 0.5 * moments(lm, part)[layer].matrix.double())
            delta = next(deltas)
            assert delta.module == module
            assert torch.allclose(delta.dense()[0], change, atol=1e-5 * change.abs().max()), (layer, part)
            with torch.no_grad():
                edited.weight(module).add_(delta.dense()[0])
    assert next(deltas, None) is None


def test_attentions_and_mlps_are_written_for_each_case_alone():
    lm, cases = tiny(), singles(4)
    editor = pmet(lm, modules=("attention", "mlp"))
    together = editor.edit(cases)
    for i, case in enumerate(cases):
        alone = editor.edit([case])
        for one, other in zip(together.delta, alone.delta, strict=True):
            assert torch.allclose(one.dense()[i], other.dense()[0], rtol=1e-6, atol=1e-9)


def test_where_attention_and_mlp_read_the_same_stream_neither_moves_the_others_keys():
    """The released code reads both keys at once for GPT-J only."""
    for family, same in (("gptj", True), ("gpt_neox", True), ("llama", False)):
        lm, case = tiny(family), requests(2)
        both = pmet(lm, modules=("attention", "mlp")).edit([case]).diagnostics[1:]
        alone = pmet(lm, modules=("mlp",)).edit([case]).diagnostics[1:]
        keys = next(found for found in both if found["module"] == lm.projection(0))["K"]
        assert torch.allclose(keys, alone[0]["K"], atol=1e-9) == same, family


# --- settings ----------------------------------------------------------------------------------------------
def test_the_divergence_that_ends_a_value_in_each_variant():
    assert settings_of("pmet", {}).kl_enough == 0.01
    assert settings_of("pmet", {"variant": "released"}).kl_enough == pytest.approx(0.16)
    assert settings_of("pmet", {"variant": "released", "kl_factor": 0.0}).kl_enough == math.inf


def test_what_is_needed_follows_what_is_written():
    method = method_of("pmet").method
    assert method.needs(settings_of("pmet", {})) == ("moments",)
    both = settings_of("pmet", {"modules": ["attention", "mlp"]})
    assert method.needs(both) == ("attention_moments", "moments")
    with pytest.raises(ValueError, match=r"pmet.modules: .*found"):
        settings_of("pmet", {"modules": []})
    with pytest.raises(ValueError, match=r"pmet.modules: .*twice"):
        settings_of("pmet", {"modules": ["mlp", "mlp"]})


def test_moments_that_are_missing_are_named():
    lm = tiny()
    editor = make("pmet", lm, KINDS, modules=["attention"])
    editor.artifacts["attention_moments"] = {}
    with pytest.raises(ValueError, match=r"no second moments of the attention of layer 0; given: \[\]"):
        editor.edit(singles(1))


def test_a_measured_weight_is_of_the_module():
    lm = tiny()
    both = {"layers": [0, 1], "modules": ("attention", "mlp"), "mom2_weight": "auto"}
    kinds = [["{}"], ["It rains. {}"]]
    auto, memit = make("pmet", lm, kinds, **both), make("memit", lm, kinds, layers=[0, 1], mom2_weight="auto")
    assert auto.measured["mom2_weight"] == pytest.approx(memit.measured["mom2_weight"])
    ten = make("pmet", lm, kinds, **both)
    ten.artifacts["attention_moments"] = {
        i: Moment(10 * m.matrix, 1) for i, m in moments(lm, "attention").items()
    }
    name = "mom2_weight of the attention"
    assert list(auto.measured[name]) == [0, 1]
    for layer, weight in auto.measured[name].items():
        assert ten.measured[name][layer] == pytest.approx(weight / 10, rel=1e-4)
    assert pmet(lm).measured == {}
