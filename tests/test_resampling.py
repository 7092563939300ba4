"""Draws of clusters, flips of signs, and adjusted p of tests that flip together, against slow versions."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from aftershock.metrics.comparisons import adjusted, compare
from aftershock.metrics.resampling import cluster_codes, drawn_signs, resampled_means, sign_flips
from aftershock.metrics.settings import Statistics
from aftershock.metrics.step_down import Flipped, step_down
from simulate import block_of, cases_of


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


PERMUTATIONS = 199


def slow_step_down(parts, seeds, permutations):
    """Westfall and Young's Algorithm 2.8, one flip and one test at a time."""
    statistics = []
    for draw in range(permutations + 1):
        row = []
        for sums, seed in zip(parts, seeds, strict=True):
            signs = drawn_signs(permutations, len(sums), np.random.default_rng(seed))
            flips = np.ones(len(sums)) if draw == permutations else signs[draw]
            for column in sums.T:
                length = np.sqrt(sum(x * x for x in column))
                row.append(abs(sum(flips * column)) / length if length else 0.0)
        statistics.append(row)
    observed = statistics[-1]
    falling = sorted(range(len(observed)), key=lambda test: -observed[test])
    p, last = {}, 0.0
    for place, test in enumerate(falling):
        weaker = falling[place:]
        count = sum(max(row[i] for i in weaker) >= observed[test] - 1e-9 for row in statistics)
        last = p[test] = max(last, count / len(statistics)) if observed[test] else 1.0
    return [p[test] for test in range(len(observed))]


@pytest.mark.parametrize("clusters", [(6,), (9, 4), (1, 12)])
def test_adjusted_p_are_those_of_loops(clusters):
    rng = np.random.default_rng(sum(clusters))
    parts = [rng.integers(-2, 4, (n, 5)).astype(float) for n in clusters]
    parts[0][:, 2] = 0.0
    given = [Flipped(sums, np.random.default_rng(i)) for i, sums in enumerate(parts)]
    found = step_down(given, PERMUTATIONS)
    assert found == pytest.approx(slow_step_down(parts, range(len(parts)), PERMUTATIONS))
    assert found[2] == 1.0


def test_a_family_without_differences_has_an_error_as_rarely_as_asked():
    """400 studies of 40 correlated tests, of which nothing is true: at most 5 % find something."""
    errors, studies = 0, 400
    for study in range(studies):
        rng = np.random.default_rng(study)
        sums = rng.normal(0, 1, (20, 40)) + rng.normal(0, 1, (20, 1))
        errors += step_down([Flipped(sums, rng)], PERMUTATIONS).min() <= 0.05
    assert errors / studies <= 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / studies)
    assert errors / studies > 0.01  # and it is no idle test


def test_as_many_as_thirty_methods_hide_no_clear_difference():
    """A method that never succeeds differs from one that always does, whatever the number of methods."""
    settings, cases = Statistics(resamples=100, permutations=1999), cases_of(32, [i // 2 for i in range(32)])
    rng = np.random.default_rng(0)
    values = {
        f"m{i}": {"conflict_score_exp": (rng.random(32) < 0.8).astype(float).tolist()} for i in range(28)
    }
    values |= {"never": {"conflict_score_exp": [0.0] * 32}, "always": {"conflict_score_exp": [1.0] * 32}}
    rows = compare(block_of(values, cases), settings)
    rows = rows[
        rows["metric"].eq("conflict_score_exp") & rows["subset"].eq("all") & rows["family"].eq("table1")
    ]
    pairs = rows.set_index(["editor", "other"])
    assert len(pairs) == len(list(combinations(values, 2)))
    clear = pairs.loc[("never", "always")]
    assert clear["significant"]
    assert clear["p_adjusted"] < 0.02
    ends = {"never", "always"}
    alike = rows[~rows["editor"].isin(ends) & ~rows["other"].isin(ends)]
    assert not alike["significant"].any()
    # Holm's correction cannot say so with as few flips, however clear the difference is.
    tested = rows["p"].dropna().to_numpy()
    assert adjusted(tested, "holm").min() > 0.05
