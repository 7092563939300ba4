"""Comparison of a run of reduced precision with an exact one, metric by metric on the same cases."""

import pandas as pd

from aftershock.metrics.catalogue import find_metric

CASES_NEEDED = 500
POINTS = 0.5
"""Largest difference of a metric's mean, in hundredths."""


def compare_precisions(strict: pd.DataFrame, reduced: pd.DataFrame) -> pd.DataFrame:
    """PRECISION rows: mean of every metric of each dataset in both, over the cases that have it in both.

    Both are SCORES rows with a column `dataset`. A metric without an upper bound of its own, such as a
    log-ratio, is compared as well: a point is a hundredth of its unit.
    """
    keys = ["dataset", "metric", "case_id"]
    both = strict.merge(reduced, on=keys, suffixes=("_strict", "_reduced"), validate="one_to_one")
    both = both.dropna(subset=["value_strict", "value_reduced"])
    means = both.groupby(["dataset", "metric"]).agg(
        cases=("case_id", "size"), strict=("value_strict", "mean"), reduced=("value_reduced", "mean")
    )
    frame = means.reset_index()
    frame["points"] = 100 * (frame["reduced"] - frame["strict"])
    frame["accepted"] = frame["points"].abs() <= POINTS
    return frame


def require_accepted(frame: pd.DataFrame, tested: int, precision: str) -> None:
    """Raise ValueError when too few cases were compared, or a metric moved too far; it names them."""
    if tested < CASES_NEEDED:
        raise ValueError(
            f"precision {precision} is accepted on at least {CASES_NEEDED} test cases, there are {tested}: "
            "raise cases.quotas.test, or set engine.precision to strict"
        )
    moved = frame[~frame["accepted"]]
    if len(moved):
        worst = moved.loc[moved["points"].abs().sort_values(ascending=False).index[:5]]
        names = "; ".join(
            f"{row.dataset} {getattr(find_metric(row.metric), 'title', row.metric)} {row.points:+.2f}"
            for row in worst.itertuples(index=False)
        )
        raise ValueError(
            f"precision {precision} moves {len(moved)} of {len(frame)} metrics by more than {POINTS} points "
            f"({names}): set engine.precision to strict"
        )
