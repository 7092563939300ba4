"""The scores of one run: one model, dataset, editor and seed."""

from collections.abc import Mapping, Sequence

import pandas as pd

from aftershock.metrics.conflict import score_conflict
from aftershock.metrics.observed import (
    ALONE,
    CONTROL,
    FIRST,
    RANDOM,
    SECOND,
    cases_in,
    gather,
    probabilities,
    scores,
)
from aftershock.metrics.rounds import MARGIN, known_objects, score_round

CONFLICT = ("coverage", "reverse", "composite")
ROUND = ("round_easy", "round_hard")
DATASETS = (*CONFLICT, *ROUND)


def score_run(
    cases: pd.DataFrame,
    probes: pd.DataFrame,
    unedited: pd.DataFrame,
    shards: Mapping[str, pd.DataFrame],
    telemetry: pd.DataFrame,
    dataset: str,
    ranges: Sequence[str],
    objects: pd.DataFrame | None = None,
    margin: float = MARGIN,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """PROBABILITIES and SCORES of the test cases in `ranges`.

    `shards` maps the range in a shard's file name to its OBSERVATIONS; `objects` has OBJECT_SCORES, which say
    what a model knows. ValueError names the shard of a case that is missing, incomplete or there twice.
    """
    if dataset not in DATASETS:
        raise ValueError(f"no metrics for dataset {dataset!r}; known datasets: {', '.join(DATASETS)}")
    failed = telemetry[telemetry["reason"].notna()]
    states = (FIRST, SECOND, ALONE) if dataset in CONFLICT else (FIRST, SECOND)
    observations = gather(cases, unedited, shards, ranges, failed, states)
    in_ranges = cases["case_id"].isin([case for shard in ranges for case in cases_in(shard)])
    tested = cases[in_ranges & (cases["split"] == "test")]
    readings = probabilities(probes, observations)
    if dataset in CONFLICT:
        table = score_conflict(tested, readings, dataset)
    else:
        known = known_objects(probes, objects) if objects is not None else None
        table = score_round(tested, readings, known, margin)
    return readings, pd.concat(
        [table, scores({"edit_failed": edit_failed(tested, failed)})], ignore_index=True
    )


def edit_failed(cases: pd.DataFrame, failed: pd.DataFrame) -> pd.Series:
    """1.0 for each case of which an edit failed, controls aside."""
    counted = failed.loc[~failed["state"].isin([CONTROL, RANDOM]), "case_id"]
    index = pd.Index(cases["case_id"], name="case_id")
    return pd.Series(index.isin(counted).astype(float), index=index)
