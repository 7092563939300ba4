"""Adjusted p of tests that flip signs together: a slow version, errors in a family, and many methods."""

from itertools import combinations

import numpy as np
import pytest

from aftershock.metrics.comparisons import adjusted, compare
from aftershock.metrics.resampling import drawn_signs
from aftershock.metrics.settings import Statistics
from aftershock.metrics.step_down import Flipped, step_down
from simulate import block_of, cases_of

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
