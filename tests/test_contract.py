"""One contract for every editing method; make check-method METHOD=path holds another one against it.

Deltas may be changes of weights, adapters that decide row by row, or text before a prompt. So they are
compared as matrices where they are such, and otherwise by the log-probabilities of what a model says.
"""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiers
from aftershock.editors.contract import EditResult, layers_of
from aftershock.editors.methods import method_of
from aftershock.lm.edits import EMPTY, LowRank, select, state_norm
from aftershock.lm.edits.saved import load_deltas, save_deltas
from aftershock.lm.edits.state import in_weights
from aftershock.lm.scoring import score
from aftershock.requests import EditRequest, Query
from editing import (
    METHODS,
    able,
    alike,
    behaviour,
    built,
    chosen,
    close,
    edits_layers,
    families_of,
    identical,
    log_probs,
    make,
    make_brief,
    make_measured,
    same_memory,
    say,
    singles,
    untouched,
)
from taught import edits, known, taught
from tiers import of_methods, some
from tiny import CITIES, FAMILIES, NAMES, TEMPLATES, requests, tiny, written

PAIRS = [(method, family) for method in METHODS for family in families_of(method)]
FAILING = (*tiers.METHODS, "anyedit", "crispedit", "lyaplock", "ultraedit", "wise")
"""Methods of each kind, and those that remember what an edit did in ways of their own."""
IN_LAYERS = [method for method in METHODS if edits_layers(method)]


def descends(settings):
    """True if a method lowers a loss, by its settings; others rely on what a trained model has learned."""
    return any(hasattr(settings, name) for name in ("lr", "lr_scale", "rate"))


def result_of(result, n):
    """Hold a result of `n` cases that all worked against the contract, and return it."""
    assert isinstance(result, EditResult)
    assert result.reasons == (None,) * n
    assert len(result.steps) == len(result.losses) == n
    assert all(math.isfinite(loss) for loss in result.losses)
    assert all(len(delta) == n for delta in result.delta)
    assert all(len(tensor) == n for tensor in (result.memory or {}).values())
    return result


# --- an edit -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", of_methods(METHODS))
def test_an_edit_writes_its_fact_and_leaving_it_out_undoes_it(method):
    lm = taught()
    before, cases = copy.deepcopy(lm.model.state_dict()), [[request] for request in edits(5)]
    asked = known()
    unedited = say(lm, asked)
    result = result_of(make_measured(method, lm).edit(cases), 5)
    gain = log_probs(lm, cases, result.delta) - log_probs(lm, cases, EMPTY)
    true = [[EditRequest(r.prompt, r.subject, r.target_true)] for (r,) in cases]
    margin = log_probs(lm, cases, result.delta) - log_probs(lm, true, result.delta)
    was = log_probs(lm, cases, EMPTY) - log_probs(lm, true, EMPTY)
    assert (gain > 0).sum() >= 3, gain
    assert (margin > was).sum() >= 3, (was, margin)
    assert gain.mean() > 0.5, gain
    assert untouched(lm, before)
    assert say(lm, asked) == unedited


@pytest.mark.parametrize(("method", "family"), able(METHODS))
def test_an_edit_makes_its_target_likelier_and_leaves_the_model_alone(method, family):
    lm = tiny(family)
    before = copy.deepcopy(lm.model.state_dict())
    cases = singles(5)
    changes = {"layers": [0]} if edits_layers(method) else {}
    editor = make(method, lm, contexts=[["{}"]], **changes)
    result = result_of(editor.edit(cases), 5)
    assert untouched(lm, before)
    if all(map(in_weights, result.delta)) and descends(editor.settings):
        gain = log_probs(lm, cases, result.delta) - log_probs(lm, cases, EMPTY)
        # other tokens have similar keys there, so that one case in five may lose by what these change
        assert (gain > 0).sum() >= 4
        assert gain.mean() > 0.1
    moved = behaviour(lm, result.delta, 5) - behaviour(lm, EMPTY, 5)
    assert (moved.abs() > 1e-6).any(dim=1).sum() >= 4
    lowest = min(layers_of(editor.settings), default=0)
    assert all(delta.first_layer >= lowest for delta in result.delta if in_weights(delta))


@pytest.mark.parametrize("method", METHODS)
def test_families_that_a_method_cannot_edit_are_refused(method):
    found = method_of(method)
    for family in FAMILIES:
        if found.method.edits(family):
            assert found.fault_of_family(family) is None
        else:
            with pytest.raises(ValueError, match=f"cannot edit a model of family {family}, only of"):
                make(method, tiny(family))


# --- cases beside each other -------------------------------------------------------------------------------
@pytest.mark.parametrize("method", of_methods(METHODS))
def test_a_batch_of_cases_equals_the_cases_alone_in_any_order(method):
    lm = tiny(families_of(method)[0])
    editor, cases, order = make_brief(method, lm), singles(4), [3, 0, 2, 1]
    together = result_of(editor.edit(cases), 4)
    shuffled = editor.edit([cases[i] for i in order])
    assert alike(lm, shuffled.delta, select(together.delta, order))
    for i, case in enumerate(cases):
        alone = editor.edit([case])
        assert alike(lm, select(together.delta, [i]), alone.delta), i
        assert alone.losses[0] == pytest.approx(together.losses[i], abs=1e-6)
        assert alone.steps[0] == together.steps[i] == shuffled.steps[order.index(i)]


@pytest.mark.parametrize("method", of_methods(METHODS))
def test_a_case_of_several_requests_is_one_edit(method):
    lm = tiny(families_of(method)[0])
    editor = make_brief(method, lm)
    name, cities = NAMES[1], CITIES[:3]
    several = [EditRequest(TEMPLATES[0], name, city) for city in cities]  # which cannot all be true
    cases = [[requests(1)[0]], several, requests(2, template=1)]
    result = result_of(editor.edit(cases), 3)
    for i, case in enumerate(cases):
        alone = editor.edit([case])
        assert torch.allclose(state_norm(select(result.delta, [i])), state_norm(alone.delta), rtol=1e-6)
        queries = [Query(r.text, r.target_new, i) for r in case]
        found = [s.logprob for s in score(lm, queries, result.delta)]
        wanted = [s.logprob for s in score(lm, [Query(q.prompt, q.target) for q in queries], alone.delta)]
        assert found == pytest.approx(wanted, abs=1e-6)
        assert all(map(math.isfinite, found))


@pytest.mark.parametrize("method", some(METHODS, FAILING))
def test_a_broken_case_fails_alone_changes_nothing_and_is_forgotten(method):
    lm = tiny(families_of(method)[0])
    editor, cases, later = make_brief(method, lm), singles(3), singles(3, template=2)[1:2]
    width = lm.weight(lm.projection(0)).shape[1]
    bad = torch.zeros(3, 1, width, dtype=lm.dtype)
    bad[1] = math.nan
    state = (LowRank(lm.projection(0), bad, torch.ones(3, 1, lm.d_model, dtype=lm.dtype)),)
    result = editor.edit(cases, state)
    assert (result.reasons[0], result.reasons[2]) == (None, None)
    sound = editor.edit([cases[0], cases[2]], select(state, [0, 2])).delta
    assert alike(lm, select(result.delta, [0, 2]), sound)
    if result.reasons[1] is None:  # an edit that does not run the model has nothing to fail by
        assert identical(select(result.delta, [1]), editor.edit([cases[1]]).delta)
        return
    assert "nan" in result.reasons[1] or "finite" in result.reasons[1]
    assert torch.equal(behaviour(lm, select(result.delta, [1]), 1), behaviour(lm, EMPTY, 1))
    assert state_norm(result.delta)[1] == 0
    first = editor.edit(singles(3, template=1))
    failed, mine = editor.edit(cases, first.delta + state, first.memory), select(first.delta, [1])
    if method == "serac" and failed.reasons[1] is None:  # its first edit answers in the broken model's place
        prompts = [Query(case[0].text, case[0].target_new, i) for i, case in enumerate(cases)]
        answers = score(lm, prompts, first.delta + state)
        assert math.isfinite(answers[1].logprob)
        return
    assert [reason is None for reason in failed.reasons] == [True, False, True]
    after, before = (editor.edit(later, mine, chosen(m, [1])) for m in (failed.memory, first.memory))
    assert alike(lm, after.delta, before.delta)


# --- edit after edit ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "family"),
    some(PAIRS, (pair for pair in PAIRS if pair[0] in tiers.METHODS and pair[1] == "gpt2")),
)
def test_a_second_edit_starts_from_the_first(method, family):
    lm = tiny(family)
    editor = make_brief(method, lm)
    one, more = editor.edit(singles(2)), singles(2, template=1)
    second = result_of(editor.edit(more, one.delta, one.memory), 2)
    for case in range(2):
        mine, memory = select(one.delta, [case]), chosen(one.memory, [case])
        alone = editor.edit(more[case : case + 1], mine, memory).delta
        assert alike(lm, select(one.delta + second.delta, [case]), mine + alone), case
        if one.memory is None and all(map(in_weights, one.delta + second.delta)):
            model = written(lm, one.delta, case)
            alone = built(method, model, editor.settings, unedited=lm).edit(more[case : case + 1]).delta
            assert close(select(second.delta, [case]), alone), case
    afresh = editor.edit(more).delta
    if all(map(in_weights, afresh)):
        assert not close(second.delta, afresh)
    assert not torch.allclose(
        behaviour(lm, one.delta + second.delta, 2), behaviour(lm, one.delta, 2), atol=1e-6
    )


@pytest.mark.parametrize("method", of_methods(METHODS))
def test_a_second_edit_overwrites_the_first_one_and_can_be_left_out(method):
    lm = taught()
    firsts = edits(4)
    seconds = [
        EditRequest(r.prompt, r.subject, CITIES[(CITIES.index(r.target_new) + 2) % 8], r.target_new)
        for r in firsts
    ]
    editor = make_measured(method, lm)
    first = editor.edit([[r] for r in firsts])
    queries = [Query(r.text, r.target_new, i) for i, r in enumerate(firsts)]
    after_first = say(lm, queries, first.delta)
    second = result_of(editor.edit([[r] for r in seconds], first.delta, first.memory), 4)
    cases = [[r] for r in seconds]
    gain = log_probs(lm, cases, first.delta + second.delta) - log_probs(lm, cases, first.delta)
    if not hasattr(editor.settings, "previous_keys"):  # which keep what was written at this very key
        assert (gain > 0).sum() >= 3, gain
    assert say(lm, queries, first.delta) == after_first


@pytest.mark.parametrize("method", of_methods(METHODS))
def test_what_is_saved_and_loaded_goes_on_as_if_nothing_had_been(method, tmp_path):
    lm = tiny(families_of(method)[0])
    editor, more = make_brief(method, lm), singles(3, template=1)
    first = editor.edit(singles(3))
    save_deltas(first.delta, tmp_path / "deltas.safetensors")
    loaded, _ = load_deltas(tmp_path / "deltas.safetensors")
    assert identical(loaded, first.delta)
    memory = first.memory
    if memory is not None:
        assert all(isinstance(tensor, torch.Tensor) and len(tensor) == 3 for tensor in memory.values())
        save_file(
            {name: t.contiguous().clone() for name, t in memory.items()}, tmp_path / "memory.safetensors"
        )
        memory = load_file(tmp_path / "memory.safetensors")
    second, wanted = editor.edit(more, loaded, memory), editor.edit(more, first.delta, first.memory)
    assert identical(second.delta, wanted.delta)
    assert same_memory(second.memory, wanted.memory)
    assert torch.equal(behaviour(lm, loaded + second.delta, 3), behaviour(lm, first.delta + wanted.delta, 3))


@pytest.mark.parametrize("method", of_methods(METHODS))
def test_nothing_is_kept_between_calls_and_the_same_seed_gives_the_same_edit(method):
    lm = tiny(families_of(method)[0])
    editor, cases = make_brief(method, lm), singles(3)
    first = editor.edit(cases)
    editor.edit(singles(3, template=1), memory=first.memory)
    for again in (editor.edit(cases), make_brief(method, lm).edit(cases)):
        assert identical(again.delta, first.delta)
        assert same_memory(again.memory, first.memory)
        assert (again.steps, again.losses) == (first.steps, first.losses)


@pytest.mark.parametrize("method", IN_LAYERS)
def test_layers_that_the_model_lacks_are_refused(method):
    lm = tiny(families_of(method)[0])
    with pytest.raises(ValueError, match=r"layers \[7\]: the model has layers 0 to 2"):
        make(method, lm, layers=[7])
