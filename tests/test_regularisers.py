"""Regularisers, each against a slow obvious version."""

import math

import pytest
import torch

from aftershock.editors.regularise import Weight, norm_clamp, prune, rect, sphere
from aftershock.editors.regularisers import REGULARISERS, settings_of_entry
from aftershock.lm.edits import Dense, LowRank, Rows, state_norm
from editing import close

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


def test_prune_keeps_low_rank_and_has_no_noise_in_it():
    three = factors(rank=3)
    U, V = (torch.cat([factor, factor[:, :1]], dim=1) for factor in (three.U, three.V))
    delta = LowRank("m.0", U, V)
    found = regularised("prune", delta, Weight(WEIGHT))
    assert isinstance(found, LowRank)
    assert found.rank == 4
    assert torch.linalg.matrix_rank(found.dense()).tolist() == [3, 3, 3]


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
    for case in range(CASES):
        alone = regularised(
            "norm_clamp", other.select([case]), Weight(WEIGHT, first.select([case])), limit=limit
        )
        assert close((second.select([case]),), (alone,), 1e-12)
    back = delta.scaled(torch.full((CASES,), -0.01, dtype=torch.float64))
    found = regularised("norm_clamp", back, after, limit=limit)
    assert torch.equal(found.V, back.V)  # towards the unedited weight there is room
    assert close((regularised("norm_clamp", delta, Weight(WEIGHT), limit=1e3),), (delta,), 0)


@pytest.mark.parametrize("name", REGULARISERS)
def test_no_change_stays_none(name):
    for delta in changes():
        none = delta.without(torch.ones(CASES, dtype=torch.bool))
        found = regularised(name, none, Weight(WEIGHT, BEFORE), **ALL[name])
        assert state_norm((found,)).tolist() == [0.0] * CASES
