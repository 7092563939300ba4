"""When a run of reduced precision is accepted."""

import pandas as pd
import pytest

from aftershock.metrics.precision import CASES_NEEDED, compare_precisions, require_accepted
from aftershock.tables.runs import PRECISION


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
