"""Methods that spread a value over several layers: what is one formula gives one edit."""

import logging

import pytest
import torch

from aftershock.editors import previous_keys
from aftershock.lm.edits import select, state_norm
from aftershock.requests import EditRequest
from editing import REMEMBER, close, make
from obvious import off
from tiny import CITIES, NAMES, TEMPLATES, requests, tiny


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
