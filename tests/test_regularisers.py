"""Regularisers, each against a slow obvious version, alone and behind editors."""

import math

import pytest
import torch

from aftershock.datasets.table import CONFLICT_STATES
from aftershock.editors.contract import EditResult
from aftershock.editors.methods import make_editor, method_of
from aftershock.editors.regularise import Weight, norm_clamp, prune, rect, sphere
from aftershock.editors.regularised import Regularised
from aftershock.editors.regularisers import REGULARISERS, merged_entries, settings_of_entry
from aftershock.experiments.states import Walk
from aftershock.lm.edits import EMPTY, Dense, LowRank, Rows, state_norm
from editing import METHODS, close, make, singles
from tiny import low_rank, tiny
from toy_deltas import Nudge

APPLY = {"rect": rect, "norm_clamp": norm_clamp, "sphere": sphere, "prune": prune}
ALL = {"rect": {"keep": 30}, "norm_clamp": {"limit": 0.1}, "sphere": {}, "prune": {}}
D_OUT, D_IN, CASES = 7, 11, 3


def matrix(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factors(rank=2, scale=1.0):
    """A change of low rank of some cases."""
    return LowRank("m.0", matrix(CASES, rank, D_IN, seed=1, scale=scale), matrix(CASES, rank, D_OUT, seed=2))


def changes():
    """Changes of every kind, with and without a bias."""
    rows = Rows("m.0", torch.tensor([[0, 3], [5, 5], [10, 1]]), matrix(CASES, 2, D_OUT, seed=3), D_IN)
    whole = matrix(CASES, D_OUT, D_IN, seed=4)
    return factors(), rows, Dense("m.0", whole), Dense("m.0", whole, matrix(CASES, D_OUT, seed=5))


def regularised(name, delta, weight, **settings):
    return APPLY[name](delta, weight, settings_of_entry({name: settings})[1])


WEIGHT = matrix(D_OUT, D_IN, seed=6)
BEFORE = LowRank("m.0", matrix(CASES, 1, D_IN, seed=7, scale=0.1), matrix(CASES, 1, D_OUT, seed=8))


# --- slow obvious versions ----------------------------------------------------------------------------------
def slow_rect(change, weight, keep):
    ratios = sorted(
        (abs(c / (w + 1e-8)) for c, w in zip(change.flatten(), weight.flatten(), strict=True)), key=float
    )
    threshold = ratios[int(len(ratios) * (100 - keep) / 100) - 1]
    kept = torch.zeros_like(change)
    for i in range(change.shape[0]):
        for j in range(change.shape[1]):
            if abs(change[i, j] / (weight[i, j] + 1e-8)) >= threshold:
                kept[i, j] = change[i, j]
    return kept


def slow_prune(change, original, function):
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    largest = torch.linalg.svdvals(original)[0].item()
    total = torch.zeros_like(change)
    for u, s, v in zip(left.T, values.tolist(), right, strict=True):
        if s < 1e-7 * values[0]:
            continue
        if s >= largest and function == "linear":
            s = (s + largest) / 2
        elif s >= largest:
            base = {"log": math.e, "log1_2": 1.2, "log1_5": 1.5, "log2": 2}[function]
            s = math.log(s, base) - math.log(largest, base) + largest
        total += s * torch.outer(u, v)
    return total


def slow_sphere(change, weight, share, strength):
    rows = torch.stack([row / row.norm() for row in weight])
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    order = values.argsort(descending=True)
    values, vectors = values[order], vectors[:, order]
    taken, running = 1, 0.0
    for value in values:
        running += float(value / values.sum())
        taken += running <= share
    Q = vectors[:, :taken]
    return change @ (torch.eye(len(Q), dtype=Q.dtype) - strength * Q @ Q.T)


@pytest.mark.parametrize("delta", changes(), ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("before", [None, BEFORE])
def test_rect_keeps_the_largest_changes_relative_to_the_current_weight(delta, before):
    found = regularised("rect", delta, Weight(WEIGHT, before), keep=30)
    for case in range(CASES):
        current = WEIGHT if before is None else WEIGHT + before.dense()[case]
        assert torch.equal(found.dense()[case], slow_rect(delta.dense()[case], current, 30))
    assert (found.bias is None) == (delta.bias is None)


def test_rect_keeps_one_entry_more_than_the_share_and_all_that_equal_the_threshold():
    weight = torch.ones(1, 10, dtype=torch.float64)
    change = torch.arange(1.0, 11.0, dtype=torch.float64)[None]
    found = regularised("rect", Dense("m.0", change[None]), Weight(weight), keep=40).dense()[0]
    assert found[0].tolist() == [0] * 5 + [6, 7, 8, 9, 10]
    tied = torch.tensor([[1.0, 2, 3, 3, 3, 3, 3, 3, 9, 9]], dtype=torch.float64)
    found = regularised("rect", Dense("m.0", tied[None]), Weight(weight), keep=40).dense()[0]
    assert found[0].tolist() == [0, 0, *[3] * 6, 9, 9]


def test_rect_keeping_everything_changes_nothing():
    delta = factors()
    assert regularised("rect", delta, Weight(WEIGHT), keep=100) is delta


def test_rect_divides_by_no_zero():
    weight = torch.full((1, 4), -1e-8, dtype=torch.float64)
    change = torch.tensor([[0.0, 1.0, 0.0, 2.0]], dtype=torch.float64)
    found = regularised("rect", Dense("m.0", change[None]), Weight(weight), keep=40).dense()[0]
    assert found.tolist() == [[0, 1, 0, 2]]
    nothing = regularised("rect", Dense("m.0", 0 * change[None]), Weight(weight), keep=40).dense()[0]
    assert nothing.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("function", ["log", "log1_2", "log1_5", "log2", "linear"])
@pytest.mark.parametrize("delta", changes(), ids=lambda d: type(d).__name__)
def test_prune_bounds_singular_values(delta, function):
    found = regularised("prune", delta, Weight(WEIGHT), function=function)
    edited = regularised("prune", delta, Weight(WEIGHT), function=function, base="edited")
    for case in range(CASES):
        wanted = slow_prune(delta.dense()[case], WEIGHT, function)
        assert torch.allclose(found.dense()[case], wanted, atol=1e-12)
        assert torch.allclose(edited.dense()[case], delta.dense()[case] + wanted, atol=1e-12)
    for one in (found, edited):
        assert (one.bias is None) == (delta.bias is None)
        assert one.bias is None or torch.equal(one.bias, delta.bias)


def test_prune_of_a_small_change_is_the_change_and_its_double():
    delta = factors(scale=1e-3)
    assert close((regularised("prune", delta, Weight(WEIGHT)),), (delta,), 1e-12)
    double = regularised("prune", delta, Weight(WEIGHT), base="edited")
    assert close((double,), (delta.scaled(torch.full((CASES,), 2.0, dtype=torch.float64)),), 1e-12)


def test_prune_keeps_low_rank_and_has_no_noise_in_it():
    three = factors(rank=3)
    U, V = (torch.cat([factor, factor[:, :1]], dim=1) for factor in (three.U, three.V))
    delta = LowRank("m.0", U, V)
    found = regularised("prune", delta, Weight(WEIGHT))
    assert isinstance(found, LowRank)
    assert found.rank == 4
    assert torch.linalg.matrix_rank(found.dense()).tolist() == [3, 3, 3]


def test_a_logarithm_enlarges_where_the_slope_at_the_weights_value_exceeds_one():
    weight = torch.eye(2, dtype=torch.float64)  # sigma0 = 1 < 1 / ln 1.2
    change = 1.1 * torch.eye(2, dtype=torch.float64)[None]
    found = regularised("prune", Dense("m.0", change), Weight(weight), function="log1_2").dense()[0]
    assert found[0, 0].item() == pytest.approx(1 + math.log(1.1) / math.log(1.2))
    assert found[0, 0] > 1.1
    assert regularised("prune", Dense("m.0", change), Weight(weight)).dense()[0, 0, 0] < 1.1  # e: slope 1


@pytest.mark.parametrize("delta", changes(), ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("before", [None, BEFORE])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("weight", [WEIGHT, matrix(D_OUT, D_IN, seed=6).T.contiguous().T])
def test_sphere_weakens_principal_directions(delta, before, transposed, variant, weight):
    given = Weight(weight, before, transposed)
    found = regularised("sphere", delta, given, share=0.4, strength=0.7, variant=variant)
    for case in range(CASES):
        current, change = given.of(case), delta.dense()[case]
        if transposed and variant == "released":
            wanted = slow_sphere(change.T, current.T, 0.4, 0.7).T
        else:
            wanted = slow_sphere(change, current, 0.4, 0.7)
        assert torch.allclose(found.dense()[case], wanted, atol=1e-12)


def test_norm_clamp_bounds_the_whole_change():
    delta = factors()
    limit = 0.05
    within = limit * WEIGHT.norm()
    first = regularised("norm_clamp", delta, Weight(WEIGHT), limit=limit)
    assert torch.allclose(state_norm((first,)), within)
    other, after = Dense("m.0", matrix(CASES, D_OUT, D_IN, seed=9)), Weight(WEIGHT, first)
    second = regularised("norm_clamp", other, after, limit=limit)
    norms = state_norm((first, second))
    assert (norms <= within * (1 + 1e-9)).all()
    assert torch.allclose(norms[state_norm((second,)) > 0], within)
    back = delta.scaled(torch.full((CASES,), -0.01, dtype=torch.float64))
    found = regularised("norm_clamp", back, after, limit=limit)
    assert torch.equal(found.V, back.V)  # towards the unedited weight there is room
    assert close((regularised("norm_clamp", delta, Weight(WEIGHT), limit=1e3),), (delta,), 0)


@pytest.mark.parametrize("name", REGULARISERS)
@pytest.mark.parametrize("delta", changes(), ids=lambda d: type(d).__name__)
def test_cases_side_by_side_are_cases_alone(name, delta):
    together = regularised(name, delta, Weight(WEIGHT, BEFORE), **ALL[name])
    for case in range(CASES):
        given = Weight(WEIGHT, BEFORE.select([case]))
        alone = regularised(name, delta.select([case]), given, **ALL[name])
        assert close((together.select([case]),), (alone,), 1e-12)


@pytest.mark.parametrize("name", REGULARISERS)
def test_no_change_stays_none(name):
    for delta in changes():
        none = delta.without(torch.ones(CASES, dtype=torch.bool))
        found = regularised(name, none, Weight(WEIGHT, BEFORE), **ALL[name])
        assert state_norm((found,)).tolist() == [0.0] * CASES


# --- behind editors -----------------------------------------------------------------------------------------
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


@pytest.mark.parametrize("method", [name for name in METHODS if method_of(name).method.in_weights])
@pytest.mark.parametrize("name", ["rect", "norm_clamp", "sphere"])
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
