"""Scores of cases among unrelated edits: the metrics of cases, with another number of edits each time."""

from collections.abc import Mapping, Sequence

import pandas as pd

from aftershock.datasets.table import FIRST, SECOND, UNEDITED
from aftershock.metrics.run import score_cases
from aftershock.tables.abilities import AMONG_SCORES

METRICS = (
    "success",
    "conflict_score_exp",
    "conflict_score_imp",
    "conflict_magnitude",
    "tied_fact_damage",
    "distortion",
    "ignore_rate",
    "failure_rate",
)
"""Those of the paper's tables: CS, CM, TFD, and D, IR, FR."""


def among_scores(
    cases: pd.DataFrame,
    probes: pd.DataFrame,
    unedited: pd.DataFrame,
    shards: Mapping[str, pd.DataFrame],
    telemetry: pd.DataFrame,
    dataset: str,
    place: str,
    ranges: Sequence[str],
) -> pd.DataFrame:
    """Return AMONG_SCORES of one dataset and place.

    `shards` has AMONG_OBSERVATIONS by the range of cases in a file's name; where they hold state 0 it stands
    for the `unedited` model's OBSERVATIONS. `telemetry` has AMONG_TELEMETRY. A case whose edits failed has no
    value.
    """
    parts = [AMONG_SCORES.empty()]
    clusters = cases.set_index("case_id")["cluster"]
    for n in sorted(set(telemetry["edits"])):
        here = {shard: rows[rows["edits"] == n] for shard, rows in shards.items()}
        base = pd.concat([rows[rows["state"] == UNEDITED] for rows in here.values()])
        found = score_cases(
            cases,
            probes,
            base if len(base) else unedited,
            {shard: rows[rows["state"] != UNEDITED] for shard, rows in here.items()},
            telemetry[telemetry["edits"] == n],
            dataset,
            ranges,
            states=(FIRST, SECOND),
        ).scores
        found = found[found["metric"].isin(METRICS)].rename(columns={"case_id": "unit"})
        found = found.assign(
            measure=found["metric"] + f":{place}:{dataset}",
            checkpoint=n,
            cluster=dataset + " " + found["unit"].map(clusters).astype("str"),
        )
        parts.append(found[list(AMONG_SCORES.columns)])
    return pd.concat(parts, ignore_index=True)
