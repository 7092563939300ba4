"""Methods that spread a value over several layers: what is one formula gives one edit."""

import logging
import math

import pytest
import torch

from aftershock.editors import previous_keys
from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.edits import select, state_norm
from aftershock.lm.statistics.moments import Moment
from aftershock.requests import EditRequest
from editing import REMEMBER, close, make, singles
from obvious import log_probs, obvious_value, off, value_texts
from tiers import once_each
from tiny import CITIES, NAMES, TEMPLATES, in_turn, moments, requests, tiny, written


def several(n, template=0):
    """One case of n requests about different subjects."""
    return [requests(n, template)]


# --- editors ------------------------------------------------------------------------------------------------
def test_emmet_is_memit_with_both_weights_multiplied():
    lm, cases = tiny(), [*several(3), *several(1), *several(2, template=1)]
    memit = make("memit", lm, mom2_weight=2.0).edit(cases).delta
    damped = make("emmet", lm, layers=[0, 1], mom2_weight=10.0, lambda_e=0.2, damp_single=True)
    assert close(damped.edit(cases).delta, memit, 1e-9)
    authors = make("emmet", lm, layers=[0, 1], mom2_weight=10.0, lambda_e=0.2).edit(cases).delta
    assert close(select(authors, [0, 2]), select(memit, [0, 2]), 1e-9)
    assert not close(select(authors, [1]), select(memit, [1]), 1e-3)
    ridged = make("emmet", lm, layers=[0, 1], mom2_weight=10.0, lambda_e=0.2, ridge=0.05, damp_single=True)
    encore = make("encore", lm, mom2_weight=2.0, ridge=0.01, prob_cutoff=0)
    assert close(ridged.edit(cases).delta, encore.edit(cases).delta, 1e-9)


@pytest.mark.parametrize("changes", [{}, {"lambda_e": 0.0}, {"lambda_e": 0.0, "ridge": 0.1}])
def test_emmets_equality_writes_the_whole_residual(changes):
    lm, cases = tiny(), [*several(1), *several(1 if not changes else 3)]
    result = make("emmet", lm, layers=[0, 1], **changes).edit(cases)
    for delta, found in zip(result.delta, result.diagnostics[1:], strict=True):
        written = delta.dense() @ found["K"].mT
        assert torch.allclose(written, found["R"].mT, atol=1e-9)
        assert found["exact"].all()
    assert result.reasons == (None, None)


def test_kinds_of_contexts_that_have_none_do_not_count():
    lm = tiny()
    plain, *others = (
        make("memit", lm, contexts, layers=[0]).edit(several(1)).delta
        for contexts in ([["{}"]], [["{}"], []], [])
    )
    assert all(close(delta, plain) for delta in others)


def test_values_that_no_change_can_write_fail_their_case_alone():
    lm = tiny()
    conflict = [EditRequest(TEMPLATES[0], NAMES[1], city) for city in CITIES[:2]]
    cases = [several(2)[0], conflict, several(1)[0]]
    editor = make("emmet", lm, layers=[0, 1], lambda_e=0.0)
    result = editor.edit(cases)
    assert [reason is None for reason in result.reasons] == [True, False, True]
    assert "its 2 keys at layer 0 have rank 1" in result.reasons[1]
    assert "set lambda_e above 0" in result.reasons[1]
    assert state_norm(result.delta)[1] == 0
    assert close(select(result.delta, [0, 2]), editor.edit([cases[0], cases[2]]).delta, 1e-9)
    assert make("emmet", lm, layers=[0, 1]).edit([conflict]).reasons == (None,)


@pytest.mark.parametrize("method", ["memit", "ultraedit"])
def test_requests_that_contradict_each_other_are_named(method, caplog):
    lm = tiny()
    asked = ((NAMES[1], CITIES[0]), (NAMES[2], CITIES[0]), (NAMES[1], CITIES[2]), (NAMES[1], CITIES[0]))
    conflict = [EditRequest(TEMPLATES[0], name, city) for name, city in asked]
    with caplog.at_level(logging.INFO):
        result = make(method, lm).edit([conflict, several(2)[0]])
    assert result.reasons == (None, None)
    if method == "memit":
        assert result.diagnostics[0]["conflicts"] == [{conflict[0].text: (CITIES[0], CITIES[2])}, {}]
    (line,) = caplog.messages
    assert line.startswith("1 of 2 cases ask for several targets after one prompt")
    assert line.endswith(f"'{conflict[0].text}' followed by '{CITIES[0]}', '{CITIES[2]}'")
    caplog.clear()
    make(method, lm).edit([several(2)[0]])
    assert not caplog.messages


@pytest.mark.parametrize("method", REMEMBER)
def test_the_first_edit_knows_nothing_and_later_ones_do(method, monkeypatch):
    monkeypatch.setattr(previous_keys, "SHARE", 2)
    lm, case = tiny(), several(2)
    knows = make(method, lm, **REMEMBER[method])
    forgets = make(method, lm, previous_keys=False)
    first = knows.edit(case)
    assert close(first.delta, forgets.edit(case).delta, 1e-12)
    assert forgets.edit(case).memory is None
    second = knows.edit(several(2, template=1), first.delta, first.memory)
    assert not close(second.delta, forgets.edit(several(2, template=1), first.delta).delta, 1e-3)
    assert {name.split(".")[0] for name in second.memory} == {"keys"}
    for found in first.diagnostics[1:]:
        keys = first.memory[f"keys.{found['layer']}"]
        assert torch.equal(keys, knows.remembered_keys(found["layer"], found["K"]))


@pytest.mark.parametrize("method", REMEMBER)
def test_what_is_remembered_is_the_same_as_a_matrix(method, monkeypatch):
    lm, case = tiny(), several(2, template=1)
    editor = make(method, lm, **REMEMBER[method])
    first = editor.edit(several(3))
    wanted = editor.edit(case, first.delta, first.memory)
    monkeypatch.setattr(previous_keys, "SHARE", 1000)
    summed = editor.edit(several(3))
    assert {name.split(".")[0] for name in summed.memory} == {"matrix"}
    assert close(editor.edit(case, first.delta, summed.memory).delta, wanted.delta, 1e-7)


def test_in_a_sequence_of_one_case_a_later_failure_takes_all_keys_with_it():
    lm = tiny()
    editor = make("memit", lm, layers=[0], previous_keys=True, multi_label="sequential")
    solve = editor.adjust_keys

    def broken(layer, K, previous):
        adjusted = solve(layer, K, previous)
        if previous.keys is not None:
            adjusted.rows[0] = float("nan")
        return adjusted

    editor.adjust_keys = broken
    result = editor.edit([several(2)[0], several(1)[0]])
    assert [reason is None for reason in result.reasons] == [False, True]
    assert result.memory["keys.0"][0].abs().max() == 0
    assert result.memory["keys.0"][1].abs().max() > 0


# --- settings -----------------------------------------------------------------------------------------------
def test_a_measured_ridge_is_a_share_of_the_mean_eigenvalue():
    lm = tiny()
    editor = make("encore", lm, ridge="auto", mom2_weight=2.0)
    for layer, ridge in editor.measured["ridge"].items():
        moments = editor.factor(layer).matrix
        values = torch.linalg.eigvalsh(moments)
        assert ridge == pytest.approx(0.1 * 2.0 * float(values.mean()), rel=1e-6)
        base = moments + ridge / 2.0 * torch.eye(len(moments), dtype=torch.float64)
        assert off(editor.base(layer).matrix, base) < 1e-12
    assert set(editor.measured) == {"ridge"}
    assert make("encore", lm, ridge=0.0).base(0) is not editor.base(0)
    assert make("encore", lm).measured == {}


def test_emmets_measured_weight_makes_an_edit_memits():
    lm, case = tiny(), several(3)
    emmet = make("emmet", lm, layers=[0, 1], mom2_weight="auto", lambda_e=0.2)
    memit = make("memit", lm, mom2_weight="auto")
    assert close(emmet.edit(case).delta, memit.edit(case).delta, 1e-9)
    for layer, weight in memit.measured["mom2_weight"].items():
        assert emmet.measured["mom2_weight"][layer] * 0.2 == pytest.approx(weight)


def test_encore_ends_values_as_the_paper_says_or_at_five_tokens():
    lm = tiny()
    wanted = {"paper": None, "released": 5}
    for variant, tokens in wanted.items():
        objective = make("encore", lm, variant=variant).objective(1)
        assert (objective.prob_cutoff, objective.prob_cutoff_tokens) == (-4, tokens)
    assert make("encore", lm, variant="released", prob_cutoff_tokens=7).objective(1).prob_cutoff_tokens == 7


def test_encore_is_the_ridged_least_squares_with_all_keys_so_far():
    lm = tiny()
    editor = make("encore", lm, layers=[0], mom2_weight=2e-3, ridge=0.03, previous_keys=True)
    first = editor.edit(several(2))
    second = editor.edit(several(3, template=1), first.delta, first.memory)
    K, R = (second.diagnostics[1][name][0].T for name in ("K", "R"))
    before = first.diagnostics[1]["K"][0].T
    A = 2e-3 * editor.factor(0).matrix + 0.03 * torch.eye(len(K), dtype=torch.float64) + before @ before.T
    wanted = R @ torch.linalg.solve(A + K @ K.T, K).T
    assert off(second.delta[0].dense()[0], wanted) < 1e-8


# --- PMET ---------------------------------------------------------------------------------------------------
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
