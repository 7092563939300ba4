"""Regularisers behind editors: when they act, what later edits start from, and what they refuse."""

import math
from itertools import product

import pytest
import torch

import tiers
from aftershock.datasets.table import CONFLICT_STATES
from aftershock.editors.contract import EditResult
from aftershock.editors.methods import make_editor, method_of
from aftershock.editors.regularise import Weight
from aftershock.editors.regularised import Regularised
from aftershock.editors.regularisers import merged_entries
from aftershock.experiments.states import Walk
from aftershock.lm.edits import EMPTY, Dense, state_norm
from editing import METHODS, close, make, singles
from test_regularisers import ALL, matrix, regularised, slow_prune
from tiers import some
from tiny import low_rank, tiny
from toy_deltas import Nudge


def test_post_regularises_after_all_layers_and_in_loop_between_them():
    lm, cases = tiny(), singles(3)
    plain, entry = make("memit", lm), {"keep": 30}
    unmasked = plain.edit(cases).delta
    post = Regularised(make("memit", lm), [{"rect": entry}]).edit(cases).delta
    for before, after in zip(unmasked, post, strict=True):
        weight = Weight(lm.weight(before.module))
        assert close((after,), (regularised("rect", before, weight, **entry),), 1e-9)
    looped = Regularised(make("memit", lm), [{"rect": {**entry, "order": "in_loop"}}]).edit(cases).delta
    assert close(looped[:1], post[:1], 1e-9)  # the first layer is looked at unchanged either way
    assert not close(looped[1:], post[1:], 1e-3)
    masked = plain_with_first_masked(lm, cases, entry)
    assert close(looped[1:], (regularised("rect", masked, Weight(lm.weight(masked.module)), **entry),), 1e-9)


def plain_with_first_masked(lm, cases, entry):
    """MEMIT's change of its second layer, computed with the first layer's masked change in place."""
    editor = make("memit", lm)
    editor.after_layer = lambda delta, state: (
        regularised("rect", delta, Weight(lm.weight(delta.module)), **entry)
        if delta.module == lm.projection(0)
        else delta
    )
    return editor.edit(cases).delta[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_whether_it_changes_weights_and_layers_in_turn(method):
    lm, seen = tiny(), []
    editor = make(method, lm)
    editor.after_layer = lambda delta, state: (seen.append(delta.module), delta)[1]
    known, changes = method_of(method).method, editor.edit(singles(2)).delta
    assert all(delta.in_weights for delta in changes) == known.in_weights
    assert bool(seen) == known.layer_loop
    assert not seen or set(seen) == {delta.module for delta in changes}
    assert not known.in_weights or {delta.module for delta in changes} <= set(editor.changed_modules)


NAMES = ("rect", "norm_clamp", "sphere")


@pytest.mark.parametrize(
    ("method", "name"),
    some(
        product((name for name in METHODS if method_of(name).method.in_weights), NAMES),
        [*(("rome", name) for name in NAMES), *((method, NAMES[0]) for method in tiers.METHODS)],
    ),
)
def test_the_second_edit_starts_from_the_regularised_first(method, name):
    lm = tiny()
    editor = Regularised(make(method, lm), [{name: ALL[name]}])
    first = editor.edit(singles(3)).delta
    second = editor.edit(singles(3, template=1), first)
    plain = make(method, lm).edit(singles(3, template=1), first)
    before = {delta.module: delta for delta in first}
    for change, found in zip(plain.delta, second.delta, strict=True):
        weight = Weight(lm.weight(change.module), before[change.module], lm.family.transposed)
        assert close((found,), (regularised(name, change, weight, **ALL[name]),), 1e-9)
    assert editor.scored(first + second.delta) == first + second.delta


def test_prune_is_applied_to_a_copy_of_the_whole_change():
    lm = tiny()
    editor = Regularised(make("memit", lm), [{"prune": {}}])
    later = singles(2, template=1)
    requests = {"e1": singles(2), "e2": later, "second": later, "control": [[], []]}
    one, two, *_ = Walk(editor, CONFLICT_STATES, 0).reach(requests, [0, 1])
    first = make("memit", lm).edit(singles(2)).delta
    second = make("memit", lm).edit(singles(2, template=1), first).delta
    assert close(one.delta, first)
    assert close(two.delta, first + second)
    for change, (a, b) in zip(two.scored, zip(first, second, strict=True), strict=True):
        for case in range(2):
            whole = a.dense()[case] + b.dense()[case]
            wanted = slow_prune(whole, lm.weight(a.module), "log")
            assert torch.allclose(change.dense()[case], wanted, atol=1e-9)
    norms = [row[4] for row in two.telemetry([0, 1])]
    assert norms == pytest.approx(state_norm(two.scored).tolist())


def test_several_requests_of_a_case_are_regularised_as_one_change():
    lm = tiny()
    case = [singles(2)[0] + singles(2)[1]]
    (found,) = Regularised(make("rome", lm), [{"rect": {"keep": 30}}]).edit(case).delta
    parts = make("rome", lm).edit(case).delta
    whole = Dense(found.module, sum(part.dense() for part in parts))
    assert close((found,), (regularised("rect", whole, Weight(lm.weight(found.module)), keep=30),), 1e-9)


def test_a_case_that_fails_changes_nothing():
    lm = tiny()
    bad = low_rank(lm, 0, 3)
    bad.U[1] = math.nan
    for order in ("post", "in_loop"):
        for name in ("rect", "norm_clamp"):
            editor = Regularised(make("memit", lm), [{name: {**ALL[name], "order": order}}])
            result = editor.edit(singles(3), (bad,))
            assert [reason is None for reason in result.reasons] == [True, False, True]
            assert state_norm(result.delta)[1] == 0


def test_whole_matrices_count_in_memory():
    lm = tiny()
    size = sum(lm.weight(lm.projection(layer)).numel() for layer in (0, 1)) * lm.dtype.itemsize
    plain = make("memit", lm)
    assert Regularised(plain, [{"norm_clamp": {"limit": 1}}]).case_bytes == 0
    assert Regularised(plain, [{"rect": {}}]).case_bytes == size
    assert Regularised(plain, [{"rect": {}}, {"prune": {}}]).case_bytes == 2 * size
    mend = Regularised(make("mend", lm), [{"rect": {}}])
    deltas = mend.edit(singles(2)).delta
    assert mend.case_bytes == sum(d.weight[0].numel() * d.weight.itemsize for d in deltas)


def test_an_editor_without_regularisers_is_the_methods_own():
    lm = tiny()
    plain = make("memit", lm)
    assert type(make_editor("memit", plain.settings, lm, plain.artifacts)) is type(plain)
    made = make_editor("memit", plain.settings, lm, plain.artifacts, 0, [{"rect": {}}])
    assert isinstance(made, Regularised)
    assert made.measured == made.editor.measured
    assert not made.in_order


def test_a_change_that_is_none_of_weights_is_refused():
    lm = tiny()
    editor = make("memit", lm)
    nudge = Nudge(lm.mlp(0), matrix(1, lm.d_model), torch.tensor([0]))
    editor.edit = lambda cases, state=EMPTY, memory=None: EditResult((nudge,), (1,), (0.0,), (None,))
    with pytest.raises(ValueError, match=r"regularisers act on changes of weights, but Nudge of .* is none"):
        Regularised(editor, [{"rect": {}}]).edit(singles(1))


def test_settings_written_out_are_the_defaults():
    assert merged_entries([{"rect": {}}, {"prune": None}]) == merged_entries(
        [{"rect": {"keep": 40, "epsilon": 1e-8, "order": "post"}}, {"prune": {"function": "log"}}]
    )
