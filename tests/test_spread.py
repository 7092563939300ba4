"""Results over several seeds: variance components against loops and where the truth is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aftershock.metrics.scales import DIFFERENCE
from aftershock.metrics.settings import Statistics
from aftershock.metrics.spread import NO_CASE, ONE_CASE, ONE_CLUSTER, ONE_SEED, components, over_seeds, spread
from aftershock.tables.report import SEEDS
from simulate import block_of, cases_of

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
    rest = sum(
        (values[s, c] - values[s].mean() - values[:, c].mean() + mean) ** 2
        for s in range(k)
        for c in range(n)
    ) / ((k - 1) * (n - 1))
    seeds = sum(n * (values[s].mean() - mean) ** 2 for s in range(k)) / (k - 1)
    cases = sum(k * (values[:, c].mean() - mean) ** 2 for c in range(n)) / (n - 1)
    found = components(values[:, :, None])
    assert found["rest"][0] == pytest.approx(rest, abs=1e-9)
    assert found["seeds"][0] == pytest.approx(max(0, (seeds - rest) / n), abs=1e-9)
    assert found["cases"][0] == pytest.approx(max(0, (cases - rest) / k), abs=1e-9)


def drawn(rng, seeds, cases, studies, sd):
    """Made-up values (seeds, cases, studies) with known spread between seeds, between cases and beside."""
    return (
        rng.normal(0, sd[0], (seeds, 1, studies))
        + rng.normal(0, sd[1], (1, cases, studies))
        + rng.normal(0, sd[2], (seeds, cases, studies))
    )


def test_components_are_right_on_average():
    found = components(drawn(np.random.default_rng(3), 4, 50, 2000, (0.3, 0.5, 0.2)))
    assert found["seeds"].mean() == pytest.approx(0.09, rel=0.08)
    assert found["cases"].mean() == pytest.approx(0.25, rel=0.03)
    assert found["rest"].mean() == pytest.approx(0.04, rel=0.02)


def test_intervals_over_cases_and_seeds_cover_where_those_over_cases_do_not():
    """With spread between seeds, 95 % intervals over both hold the mean of all seeds in about 95 % of
    studies.
    """
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
    assert (
        found["low_with_seeds"] <= found["low"] < found["value"] < found["high"] <= found["high_with_seeds"]
    )
    assert found["high_with_seeds"] <= 1  # what a drop can be
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
