"""Draws of clusters, flips of signs, p of tests that flip together, and results over several seeds."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest

from aftershock.metrics.comparisons import adjusted, compare
from aftershock.metrics.resampling import cluster_codes, drawn_signs, resampled_means, sign_flips
from aftershock.metrics.scales import DIFFERENCE
from aftershock.metrics.settings import Statistics
from aftershock.metrics.spread import NO_CASE, ONE_CASE, ONE_CLUSTER, ONE_SEED, components, over_seeds, spread
from aftershock.metrics.step_down import Flipped, step_down
from aftershock.tables.report import SEEDS
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


def test_as_many_as_thirty_methods_hide_no_clear_difference():
    """A method that never succeeds differs from one that always does, whatever the number of methods."""
    settings, cases = Statistics(resamples=100, permutations=1999), cases_of(32, [i // 2 for i in range(32)])
    rng = np.random.default_rng(0)
    values = {f"m{i}": (rng.random(32) < 0.8).astype(float).tolist() for i in range(28)}
    values |= {"never": [0.0] * 32, "always": [1.0] * 32}
    given = {editor: {"conflict_score_exp": of} for editor, of in values.items()}
    rows = compare(block_of(given, cases), settings)
    rows = rows.query("metric == 'conflict_score_exp' and subset == 'all' and family == 'table1'")
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


QUICK = Statistics(resamples=200)
NAME = "conflict_magnitude"


def row_of(values, cases=None, subset="all", name=NAME):
    """The SEEDS row of one metric from its values by seed and case."""
    cases = cases_of(len(values[0])) if cases is None else cases
    table = spread(block_of({"a": [{name: list(by_case)} for by_case in values]}, cases), QUICK)
    SEEDS.check(table)
    (row,) = table[(table["metric"] == name) & (table["subset"] == subset)].to_dict("records")
    return row


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 4), st.integers(2, 7), st.data())
def test_components_are_those_of_loops(k, n, data):
    value = st.floats(-5, 5).map(lambda x: round(x, 2))
    values = data.draw(arrays(float, (k, n), elements=value))
    mean = values.mean()
    left = [values[s, c] - values[s].mean() - values[:, c].mean() + mean for s in range(k) for c in range(n)]
    rest = sum(x**2 for x in left) / ((k - 1) * (n - 1))
    seeds = sum(n * (values[s].mean() - mean) ** 2 for s in range(k)) / (k - 1)
    cases = sum(k * (values[:, c].mean() - mean) ** 2 for c in range(n)) / (n - 1)
    found = components(values[:, :, None])
    assert found["rest"][0] == pytest.approx(rest, abs=1e-9)
    assert found["seeds"][0] == pytest.approx(max(0, (seeds - rest) / n), abs=1e-9)
    assert found["cases"][0] == pytest.approx(max(0, (cases - rest) / k), abs=1e-9)


def drawn(rng, seeds, cases, studies, sd):
    """Made-up values (seeds, cases, studies) with known spread between seeds, between cases and beside."""
    shapes = (seeds, 1, studies), (1, cases, studies), (seeds, cases, studies)
    return sum(rng.normal(0, width, shape) for width, shape in zip(sd, shapes, strict=True))


def test_intervals_over_cases_and_seeds_cover_where_those_over_cases_do_not():
    """With spread between seeds, 95 % intervals over both hold the mean of all in about 95 % of studies."""
    rng, studies = np.random.default_rng(12), 1000
    values = drawn(rng, 4, 30, studies, (0.1, 0.3, 0.05))
    found = over_seeds(values, np.arange(30), [DIFFERENCE] * studies, rng, QUICK)
    over_cases, over_both = (
        ((found[f"low{end}"] <= 0) & (found[f"high{end}"] >= 0)).mean() for end in ("", "_with_seeds")
    )
    assert over_both >= 0.95 - 3.5 * np.sqrt(0.95 * 0.05 / studies)
    assert over_cases < 0.9 < over_both


def test_several_seeds():
    values = [[0.1, 0.2, 0.6, None], [0.3, 0.2, 0.9, 0.5], [0.2, 0.2, 0.9, 0.5]]
    found = row_of(values)
    assert (found["seeds"], found["n"], found["empty"], found["clusters"]) == (3, 3, 1, 3)
    assert found["value"] == pytest.approx(np.mean([row[:3] for row in values]))
    assert found["sd_seeds"] > 0
    low, high = found["low_with_seeds"], found["high_with_seeds"]
    assert low <= found["low"] < found["value"] < found["high"] <= high <= 1  # what a drop can be
    assert pd.isna(found["note"])


def test_one_seed_says_so():
    found = row_of([[0.1, 0.2, 0.6]])
    assert found["note"] == ONE_SEED
    assert found["sd_cases"] == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))
    assert pd.isna([found["sd_seeds"], found["sd_rest"], found["low_with_seeds"]]).all()
    assert found["low"] < 0.3 < found["high"]


def test_seeds_that_agree_have_no_spread():
    found = row_of([[0.1, 0.2, 0.6]] * 3)
    assert (found["sd_seeds"], found["sd_rest"]) == pytest.approx((0, 0))
    assert found["sd_cases"] == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))
    found = row_of([[1.0] * 4] * 2, name="conflict_score_exp")
    assert (found["sd_seeds"], found["sd_cases"]) == (0, 0)
    assert found["low"] < 1


def test_one_case_and_none():
    assert row_of([[0.5], [0.6]])["note"] == ONE_CASE
    found = row_of([[None, 0.5], [0.6, None]])
    assert (found["n"], found["empty"], found["note"]) == (0, 2, NO_CASE)
    assert pd.isna([found["value"], found["low"], found["sd_cases"]]).all()
    assert spread([]).empty


def test_one_cluster_has_no_interval_over_both():
    found = row_of([[0.5, 0.1], [0.6, 0.2]], cases_of(2, [7, 7]))
    assert (found["note"], found["clusters"]) == (ONE_CLUSTER, 1)
    assert pd.isna([found["low_with_seeds"], found["high_with_seeds"]]).all()
    assert found["low"] < found["value"] < found["high"]


def test_strict_cases_apart():
    cases = cases_of(4, strict=[True, True, False, False])
    values = [[0.1, 0.2, 0.6, 0.8], [0.2, 0.2, 0.7, 0.9]]
    assert row_of(values, cases, "strict")["value"] == pytest.approx(0.175)
