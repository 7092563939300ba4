"""Draws of clusters and flips of their signs, against binomial tests and loops."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from aftershock.metrics.resampling import cluster_codes, resampled_means, sign_flips


def flips(sums, permutations=9999, seed=0):
    p, exact = sign_flips(np.array(sums, float)[:, None], np.random.default_rng(seed), permutations)
    return p[0], exact[0]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_exact_flips_are_those_of_a_loop_over_all(sums):
    totals = [abs(sum(s * x for s, x in zip(signs, sums, strict=True)))
              for signs in product([1, -1], repeat=len(sums))]  # fmt: skip
    assert flips(sums) == (pytest.approx(np.mean([total >= abs(sum(sums)) for total in totals])), True)


@pytest.mark.parametrize(("higher", "lower"), [(3, 9), (0, 6), (5, 5), (12, 1), (30, 12), (0, 0)])
def test_flips_of_rates_in_clusters_of_one_are_mcnemars_exact_test(higher, lower):
    p, exact = flips([1] * higher + [-1] * lower + [0] * 20, permutations=20000)
    wanted = binomtest(higher, higher + lower).pvalue if higher + lower else 1.0
    error = 0 if exact else 4 * np.sqrt(wanted / 20000)
    assert exact == (higher + lower <= 14)
    assert p == pytest.approx(wanted, abs=1e-12 + error)


def test_drawn_flips_agree_with_all_and_are_never_0():
    sums = np.random.default_rng(2).normal(0.35, 1, 14)
    every, exact = flips(sums, permutations=2**14)
    assert exact
    drawn, exact = flips(sums, permutations=2**14 - 1)
    assert not exact
    assert drawn == pytest.approx(every, abs=4 * np.sqrt(every / 2**14))
    assert flips([1.0] * 40, permutations=99)[0] == 1 / 100


def test_flips_are_false_alarms_as_often_as_they_say():
    """Of 2000 studies without a difference, in clusters that answer alike, 5 % come out below 0.05."""
    rng = np.random.default_rng(4)
    sums = rng.normal(0, 1, (30, 2000)) * rng.integers(1, 9, (30, 1))
    p, _ = sign_flips(sums, rng, 999)
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=3.5 * np.sqrt(0.05 * 0.95 / 2000))


def test_resampled_means_by_loops():
    rng = np.random.default_rng(8)
    sums, counts = rng.normal(size=(6, 3)), rng.integers(0, 4, (6, 3)).astype(float)
    found = resampled_means(sums, counts, np.random.default_rng(1), 300)
    drawn, each = np.random.default_rng(1), []
    for rows in (256, 44):  # drawn in chunks
        each += list(drawn.integers(0, 6, (rows, 6)))
    for j in range(3):
        whole = sums[:, j].sum() / counts[:, j].sum()
        for i, chosen in enumerate(each):
            n = sum(counts[c, j] for c in chosen)
            expected = sum(sums[c, j] for c in chosen) / n if n else whole
            assert found[i, j] == pytest.approx(expected)


def test_codes_follow_the_names_of_clusters():
    assert cluster_codes(np.array([7, 3, 7, 5])).tolist() == [2, 0, 2, 1]
    assert cluster_codes(np.array([])).tolist() == []
