"""Two editors on the same cases, and two precisions: hand-worked figures, slow versions, and bad input."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t, ttest_1samp, wilcoxon

from aftershock.metrics.comparisons import adjusted, cohens_dz, compare, detectable, rank_biserial
from aftershock.metrics.intervals import cluster_variance
from aftershock.metrics.precision import CASES_NEEDED, compare_precisions, require_accepted
from aftershock.metrics.settings import Statistics
from aftershock.metrics.study import CONTROLS, families
from aftershock.tables.report import COMPARISONS
from aftershock.tables.runs import PRECISION
from simulate import block_of, cases_of, scores_of

QUICK = Statistics(resamples=200, permutations=999)


def compared(editors, cases, settings=QUICK, dataset="reverse"):
    rows = compare(block_of(editors, cases, dataset), settings)
    COMPARISONS.check(rows)
    return rows


def row(rows, metric="conflict_magnitude", family="table1", subset="all"):
    chosen = (rows["metric"] == metric) & (rows["family"] == family) & (rows["subset"] == subset)
    (found,) = rows[chosen].to_dict("records")
    return found


def pair(ours, theirs, cases, settings=QUICK):
    """The comparison of two editors by one metric; values of several seeds are lists."""
    named = [
        [{"conflict_magnitude": of} for of in (side if isinstance(side[0], list) else [side])]
        for side in (ours, theirs)
    ]
    return row(compared(dict(zip("ab", named, strict=True)), cases, settings))


def test_a_comparison_by_hand():
    ours, theirs = [0.9, 0.5, 0.4, 0.6], [0.6, 0.3, 0.5, 0.6]  # differences .3, .2, -.1, 0
    found = pair(ours, theirs, cases_of(4))
    assert (found["n"], found["clusters"], found["seeds"]) == (4, 4, 1)
    assert pd.isna(found["note"])
    assert (found["value"], found["other_value"]) == pytest.approx((0.6, 0.5))
    assert found["difference"] == pytest.approx(0.1)
    assert found["dz"] == pytest.approx(0.1 / np.std([0.3, 0.2, -0.1, 0.0], ddof=1))
    assert found["rank_biserial"] == pytest.approx((3 + 2 - 1) / 6)
    assert (found["wins"], found["losses"], found["ties"]) == (2, 1, 1)
    # Totals of +-.3 +-.2 +-.1 at least .4 from 0: .6, .4 and their mirrors, 4 of 8.
    assert (found["p"], found["exact"]) == (0.5, True)
    assert found["low"] < 0.1 < found["high"]
    error = np.std([0.3, 0.2, -0.1, 0.0], ddof=1) / 2
    assert found["detectable"] == pytest.approx((t.ppf(0.975, 3) + t.ppf(0.8, 3)) * error)


def test_a_cluster_counts_once():
    apart = pair([0.5] * 12, [0.1] * 12, cases_of(12), Statistics())
    alike = pair([0.5] * 12, [0.1] * 12, cases_of(12, [i // 4 for i in range(12)]))
    assert apart["p"] == pytest.approx(2 / 2**12)
    assert alike["p"] == pytest.approx(2 / 2**3)
    assert (alike["n"], alike["clusters"]) == (12, 3)


def test_seeds_are_averaged_over_those_that_both_have():
    a, b = [[0.2, 0.4], [0.4, None]], [[0.1, 0.1], [0.1, 0.3]]
    found = pair(a, b, cases_of(2))
    assert (found["seeds"], found["n"]) == (2, 1)  # a has no value of the second case for its second seed
    assert found["difference"] == pytest.approx(0.3 - 0.1)
    found = pair(a, b[:1], cases_of(2))
    assert (found["seeds"], found["n"]) == (1, 2)
    assert found["difference"] == pytest.approx((0.1 + 0.3) / 2)


def test_cases_that_only_one_has_are_left_out():
    a, b = scores_of({"conflict_magnitude": [0.5] * 6}), scores_of({"conflict_magnitude": [0.25] * 9})
    found = row(compared({"a": a, "b": b[b["case_id"] > 1]}, cases_of(9)))
    assert (found["n"], found["difference"]) == (4, 0.25)


def test_strict_cases_are_compared_apart():
    values = {"a": {"conflict_magnitude": [0.5, 0.7]}, "b": {"conflict_magnitude": [0.1, 0.1]}}
    rows = compared(values, cases_of(2, strict=[True, False]))
    assert row(rows, subset="strict")["difference"] == pytest.approx(0.4)
    assert row(rows, subset="strict")["note"] == "one cluster: no test can tell"
    assert row(rows)["difference"] == pytest.approx(0.5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.just(float("nan")), st.integers(-4, 4).map(float)), min_size=1, max_size=12))
def test_effect_sizes_are_scipys(values):
    column = np.array(values)[:, None]
    seen = [x for x in values if x == x]
    if len(seen) > 1 and np.std(seen) > 0:
        assert cohens_dz(column)[0] == pytest.approx(
            ttest_1samp(seen, 0).statistic / np.sqrt(len(seen)), nan_ok=True
        )
    else:
        assert np.isnan(cohens_dz(column)[0])
    moved = [x for x in seen if x]
    if not moved:
        assert np.isnan(rank_biserial(column)[0])
        return
    plus = wilcoxon(moved, alternative="greater").statistic
    assert rank_biserial(column)[0] == pytest.approx(2 * plus / (len(moved) * (len(moved) + 1) / 2) - 1)


def test_holm_by_hand():
    # Sorted .01, .02, .03, .04: times 4, 3, 2, 1 is .04, .06, .06, .04, never falling: .04, .06, .06, .06.
    p = np.array([0.04, 0.01, 0.03, 0.02])
    assert adjusted(p, "holm") == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert adjusted(np.array([0.6, 0.9]), "holm").tolist() == [1.0, 1.0]
    assert adjusted(p, "none").tolist() == p.tolist()
    assert adjusted(p, "benjamini_hochberg") == pytest.approx([0.04, 0.04, 0.04, 0.04])
    with pytest.raises(
        ValueError, match="unknown correction 'sidak'; known corrections: westfall_young, holm"
    ):
        adjusted(p, "sidak")


def test_a_family_is_one_table_of_one_model_and_subset():
    rng = np.random.default_rng(0)
    names = families("reverse", [])["table1"]
    values = {e: {name: rng.random(30).tolist() for name in names} for e in "abc"}
    rows = compared(
        values, cases_of(30, strict=[True] * 20 + [False] * 10), replace(QUICK, correction="holm")
    )
    part = rows[(rows["family"] == "table1") & (rows["subset"] == "strict")]
    assert len(part) == 3 * len(names)
    assert part["p_adjusted"].to_numpy() == pytest.approx(adjusted(part["p"].to_numpy(), "holm"))
    assert (part["significant"] == (part["p_adjusted"] <= 0.05)).all()


def test_differences_from_controls_are_a_family_where_there_are_any():
    name = "conflict_magnitude_control_difference"
    assert CONTROLS not in families("reverse", [])
    assert families("reverse", [name])[CONTROLS] == [name]
    values = {"a": {name: [0.5, 0.25]}, "b": {name: [0.0, 0.0]}}
    assert row(compared(values, cases_of(2)), name, CONTROLS)["difference"] == 0.375


def test_equal_results_do_not_claim_that_anything_could_be_detected():
    values = {"conflict_score_imp": [0.0] * 30, "conflict_score_exp": [1.0] * 30}
    rows = compared({"a": values, "b": values}, cases_of(30))
    found = row(rows, "conflict_score_exp")
    assert (found["difference"], found["p"], found["ties"]) == (0.0, 1.0, 30)
    assert np.isnan([found["dz"], found["rank_biserial"]]).all()
    assert -0.2 < found["low"] < 0 < found["high"] < 0.2
    # As if of 32 clusters one differed by 1 and another by -1.
    variance = cluster_variance(np.array([0.0] * 30 + [1, -1]), np.ones(32))
    assert found["detectable"] == pytest.approx(detectable(np.sqrt(variance), 30, 0.05, 0.8))
    family = detectable(np.sqrt(variance), 30, 0.05 / 2, 0.8)  # both scores are one table
    assert found["detectable_family"] == pytest.approx(family)


def test_what_cannot_be_compared_says_why():
    nothing, some = {"conflict_magnitude": [None] * 3}, {"conflict_magnitude": [0.5, 0.25, None]}
    last = {"conflict_magnitude": [None, None, 1.0]}
    rows = compared({"some": some, "none": nothing, "last": last, "void": scores_of({})}, cases_of(3))
    rows = rows[(rows["metric"] == "conflict_magnitude") & (rows["family"] == "table1")]
    notes = rows[rows["subset"] == "all"].set_index(["editor", "other"])["note"]
    assert notes["some", "none"] == "none has no value"
    assert notes["none", "last"] == "none has no value"
    assert notes["some", "last"] == "no case has a value from both"
    assert notes["none", "void"] == "neither has a value"
    assert (rows["n"] == 0).all()
    assert rows[["value", "difference", "low", "p", "p_adjusted", "detectable", "dz"]].isna().all(axis=None)
    assert not rows["significant"].any()


def test_one_editor_and_none_have_nothing_to_compare():
    assert compared({"a": {"conflict_magnitude": [0.5]}}, cases_of(1)).empty
    assert compare([]).empty


def scores(values, dataset="coverage", metric="success"):
    rows = [(case, metric, value, dataset) for case, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["case_id", "metric", "value", "dataset"])


def test_means_are_compared_over_the_cases_that_both_have():
    strict = pd.concat([scores([1.0, 0.0, 1.0, None]), scores([2.0, 4.0], metric="distortion")])
    reduced = pd.concat([scores([1.0, 1.0, None, 1.0]), scores([2.0, 4.008], metric="distortion")])
    frame = compare_precisions(strict, reduced)
    PRECISION.check(frame)
    found = frame.set_index("metric")
    assert found.loc["success", ["cases", "strict", "reduced", "points"]].tolist() == [2, 0.5, 1.0, 50.0]
    assert found.loc["distortion", "points"] == pytest.approx(0.4)
    assert found["accepted"].to_dict() == {"success": False, "distortion": True}


def test_a_case_that_is_there_twice_is_an_error():
    with pytest.raises(ValueError, match="one-to-one"):
        compare_precisions(pd.concat([scores([1.0])] * 2), scores([1.0]))


def test_too_few_cases_or_too_large_a_difference_are_refused_by_name():
    same = compare_precisions(scores([1.0, 0.0]), scores([1.0, 0.0]))
    require_accepted(same, CASES_NEEDED, "tf32")
    with pytest.raises(ValueError, match=r"precision tf32 is accepted on at least 500 .* are 499: raise"):
        require_accepted(same, CASES_NEEDED - 1, "tf32")
    moved = compare_precisions(scores([1.0, 0.0]), scores([0.98, 0.0]))
    with pytest.raises(
        ValueError, match=r"1 of 1 metrics by more than 0.5 points \(coverage success -1.00\)"
    ):
        require_accepted(moved, CASES_NEEDED, "bf16")
