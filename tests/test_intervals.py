"""Intervals against hand-worked numbers, against scipy, and where a plain recipe would break."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, bootstrap

from aftershock.metrics.intervals import (
    FEW,
    SHARE,
    Scale,
    bca,
    bounded,
    estimate,
    kish,
    n_effective,
    students,
    wilson,
)

DROP = Scale(-1, 1, most=1)


def one(values, scale=SHARE, clusters=None):
    """The Estimate of a single metric."""
    frame = pd.DataFrame({"metric": np.asarray(values, dtype=float)})
    clusters = pd.Series(range(len(frame)) if clusters is None else clusters)
    return estimate(frame, clusters, {"metric": scale}, np.random.default_rng(0))["metric"]


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (1, 1), (0, 1), (64, 100)])
def test_wilson_is_scipys(successes, n):
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_by_hand():
    # n = 4, rate 1/2, z^2 = 3.8415: centre 1/2, half z/(1 + z^2/4) * sqrt(1/16 + z^2/64) = .34996
    assert wilson(0.5, 4) == pytest.approx((0.150036, 0.849964), abs=1e-5)


def test_bca_is_scipys_bootstrap_of_a_ratio_of_sums():
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 5, 30).astype(float)
    sums = np.stack([rng.gamma(1.0, 1.0, 30) * counts, rng.normal(size=30)], axis=1)
    drawn = np.random.default_rng(7).integers(0, 30, (999, 30))
    weights = np.stack([np.bincount(row, minlength=30) for row in drawn]).astype(float)
    low, high = bca(sums, counts, weights)
    for j in range(2):
        expected = bootstrap(
            (sums[:, j], counts),
            lambda s, c, axis: s.sum(axis) / c.sum(axis),
            paired=True,
            vectorized=True,
            n_resamples=999,
            method="BCa",
            rng=np.random.default_rng(7),
        ).confidence_interval
        assert (low[j], high[j]) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("scale", [SHARE, DROP, Scale(-1, 1)])
@pytest.mark.parametrize("clusters", ["own", "pairs", "one"])
@pytest.mark.parametrize(
    "values",
    [[0.0], [1.0], [0.0] * 40, [1.0] * 40, [0.3] * 40, [0.3] * 5, [0.1 + 0.2, 0.3] * 20, [0.0, 1.0]],
    ids=["0/1", "1/1", "0/n", "n/n", "equal", "few equal", "equal but for rounding", "two"],
)
def test_never_empty_and_never_of_zero_width(values, scale, clusters):
    n = len(values)
    group = {"own": range(n), "pairs": [i // 2 for i in range(n)], "one": [0] * n}[clusters]
    result = one(values, scale, list(group))
    assert result.low < result.value + 1e-12 < result.high + 2e-12
    assert result.high - result.low > 1e-6
    assert np.isfinite([result.low, result.high]).all()
    assert (result.n, result.clusters) == (n, len(set(group)))


def test_a_ratio_outside_its_usual_range_still_has_an_interval():
    result = one([-30.0], DROP)
    assert result.low < -30 < result.high < np.inf
    assert one([-30.0, 0.5, 0.5], DROP).high == 1.0  # Student's t, cut off at what a drop can be


def test_an_empty_metric_is_empty_and_counts_nothing():
    result = one([np.nan, np.nan])
    assert (result.n, result.clusters) == (0, 0)
    assert np.isnan([result.value, result.low, result.high]).all()


def test_empty_values_are_left_out_per_metric():
    frame = pd.DataFrame({"a": [1.0, np.nan, 0.0], "b": [0.5, 0.25, 0.75]})
    results = estimate(frame, pd.Series([0, 0, 1]), dict.fromkeys(frame, SHARE), np.random.default_rng(0))
    assert (results["a"].value, results["a"].n, results["a"].clusters) == (0.5, 2, 2)
    assert (results["b"].value, results["b"].n, results["b"].clusters) == (0.5, 3, 2)


def test_kish_by_hand():
    assert kish(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert kish(np.ones(7)) == 7


def test_cases_of_their_own_cluster_give_plain_wilson():
    result = one([1.0] * 3 + [0.0] * 7)
    assert (result.low, result.high) == pytest.approx(wilson(0.3, 10))


def test_clusters_whose_cases_agree_widen_a_rate():
    values = [1.0] * 12 + [0.0] * 12
    independent = one(values)
    copies = one(values, clusters=[i // 4 for i in range(24)])
    mixed = one(values, clusters=[i % 6 for i in range(24)])
    assert copies.n_effective == pytest.approx(6)  # 24 cases, six clusters of four copies
    assert independent.high - independent.low < mixed.high - mixed.low < copies.high - copies.low


def test_one_event_and_none_give_like_intervals():
    counts = np.full(20, 3.0)
    none, single = np.zeros(20), np.eye(20)[0]
    assert n_effective(none, counts) == pytest.approx(20, rel=0.1)
    assert n_effective(single, counts) == pytest.approx(n_effective(none, counts), rel=0.5)


def test_students_by_hand():
    # two clusters: t(.975, 1) = 12.7062
    assert students(0.0, 0.01, 2, Scale(-9, 9)) == pytest.approx((-1.27062, 1.27062), abs=1e-4)


def test_bounded_by_hand():
    # The middle of a range of width 4 is rate 1/2 in Wilson's interval for four cases.
    assert bounded(0.0, 4, Scale(-2, 2)) == pytest.approx((-2 + 4 * 0.150036, -2 + 4 * 0.849964), abs=1e-4)


def test_few_clusters_use_students_t_and_many_the_bootstrap():
    rng = np.random.default_rng(0)
    few = one(rng.normal(0.2, 0.1, FEW - 1), DROP)
    assert few.high - few.value == pytest.approx(few.value - few.low)
    skewed = one(1 - rng.gamma(0.3, 1.0, 200), DROP)
    assert skewed.value - skewed.low > 1.1 * (skewed.high - skewed.value)


def test_intervals_cover():
    """95 % intervals of a clustered rate and of a clustered mean hold the truth in at least 90 % of
    repetitions.
    """
    rng = np.random.default_rng(11)
    clusters = pd.Series(np.repeat(np.arange(25), 4))
    hits = np.zeros(2)
    for _ in range(200):
        chance = np.repeat(rng.beta(2, 2, 25), 4)
        frame = pd.DataFrame({"rate": rng.random(100) < chance, "mean": chance + rng.normal(0, 0.1, 100)})
        results = estimate(frame.astype(float), clusters, {"rate": SHARE, "mean": DROP}, rng, resamples=400)
        hits += [results[name].low <= 0.5 <= results[name].high for name in ("rate", "mean")]
    assert (hits >= 180).all()


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).normal(size=50)
    assert one(values, DROP) == one(values, DROP)
