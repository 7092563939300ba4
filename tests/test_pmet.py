"""PMET: the writing of attention and MLP, against a slow, obvious version."""

import math

import pytest
import torch

from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.statistics.moments import Moment
from editing import make, singles
from obvious import log_probs, obvious_value, value_texts
from tiers import once_each
from tiny import in_turn, moments, requests, tiny, written

CONTEXTS = ["{}", "It rains. {}", "As they say in the city of Graz. {}"]
KINDS = [CONTEXTS[:1], CONTEXTS[1:]]
BASE = {"steps": 4, "lr": 0.3, "weight_decay": 0.4, "clamp": 1.5, "kl_factor": 0.3, "nll_factor": 0.8}


# --- writing -----------------------------------------------------------------------------------------------
MODULES = [("mlp",), ("attention",), ("attention", "mlp"), ("mlp", "attention"), ("attention", "mlp")]


def pmet(lm, **changes):
    return make("pmet", lm, KINDS, layers=[0, 1], mom2_weight=0.5, **BASE, **changes)


def at_subject(lm, request, context, module):
    """Input and output of a module at the subject of the prompt after a context."""
    (ids, at), seen = value_texts(lm, request, [context])[0], []
    look = {module: lambda module, args, made: seen.append((args[0][0, at].detach(), made[0, at].detach()))}
    log_probs(lm.model, ids, look)
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
