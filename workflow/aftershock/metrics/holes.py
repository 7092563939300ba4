"""The observations of a run, joined and checked: what is missing, doubled or not a number.

A run with a hole is refused, or what is sound of it is scored and every hole is listed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aftershock.metrics.observed import ALONE, FIRST, SECOND, STATES, UNEDITED
from aftershock.tables.runs import HOLES

BUILDS_ON = {FIRST: (FIRST,), SECOND: (FIRST, SECOND), ALONE: (ALONE,)}
"""States that every edited case must have, and the edits whose failure excuses their absence."""

BASE = "unedited"
"""Place of the unedited model's observations, in the column of shards."""

OBSERVATION = ["case_id", "state", "probe_id", "prompt_id"]
PLACE = ["case_id", "state"]


def cases_in(shard: str) -> range:
    """The case ids of a shard named `00400-00499`, both ends included."""
    first, last = shard.split("-")
    return range(int(first), int(last) + 1)


def gather(
    cases: pd.DataFrame,
    unedited: pd.DataFrame,
    shards: Mapping[str, pd.DataFrame],
    ranges: Sequence[str],
    failed: pd.DataFrame,
    states: Sequence[str],
    incomplete: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All sound observations of a run, state 0 among them, and HOLES.

    Observations are lean (see `observed.lean`). `shards` maps the range in a shard's file name to its rows,
    `ranges` lists the shards there must be, `failed` has the TELEMETRY rows with a reason: the states after
    such an edit may be absent. `states` must otherwise be there for each test case of the ranges, with the
    probes and prompts of the unedited model. Anything else raises ValueError, or with `incomplete` is listed
    among the holes and left out.
    """
    if (gone := sorted(set(ranges) - set(shards))) and not incomplete:
        raise ValueError(
            f"shard {gone[0]} is missing; make its edits, or set report.incomplete to score what is there"
        )
    tested = set(cases.loc[cases["split"] == "test", "case_id"])
    expected = {case: shard for shard in ranges for case in cases_in(shard) if case in tested}
    base = unedited[unedited["case_id"].isin(expected)]
    rows = pd.concat([*shards.values(), base], ignore_index=True)
    sizes = [*(len(part) for part in shards.values()), len(base)]
    rows["shard"] = pd.Categorical.from_codes(np.repeat(np.arange(len(sizes)), sizes), [*shards, BASE])
    found = []
    for check in (_strangers, _twofold, _not_numbers, _repeated):
        faults = check(rows, tested)
        found.append(faults)
        if len(faults):
            rows = rows[~_within(rows, faults)]
    found.append(_absent(rows, expected, shards, failed, states))
    partial = _partial(rows, expected)
    found.append(partial)
    wrong = pd.concat(found, ignore_index=True).assign(failed=False)
    if len(wrong) and not incomplete:
        first = wrong.iloc[0]
        raise ValueError(
            f"shard {first['shard']}, case {first['case_id']}, state {first['state']}: {first['reason']}; "
            "delete that file and run again, or set report.incomplete to score the rest and list the holes"
        )
    rows = rows[~_within(rows, partial)].drop(columns="shard")
    given = [shards[shard] for shard in ranges if shard in shards]
    return rows.reset_index(drop=True), _listed(wrong, failed, expected, given)


def _listed(
    wrong: pd.DataFrame, failed: pd.DataFrame, expected: Mapping[int, str], given: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """HOLES: failed edits, then what is wrong otherwise, one row for each case and state."""
    listed = failed.loc[failed["case_id"].isin(expected), [*PLACE, "reason"]]
    listed = listed.assign(shard=listed["case_id"].map(expected), failed=True)
    both = pd.concat([listed, wrong], ignore_index=True).drop_duplicates(PLACE)
    both = both.sort_values(PLACE, ignore_index=True)[list(HOLES.columns)]
    return both.astype({"case_id": "int64", "state": "str", "shard": "str", "reason": "str", "failed": bool})


def _holes(case: pd.Series, state: pd.Series, shard: pd.Series, reason: str | pd.Series) -> pd.DataFrame:
    frame = pd.DataFrame({"case_id": case, "state": state.astype("str"), "shard": shard.astype("str")})
    return frame.assign(reason=reason)


def _within(rows: pd.DataFrame, holes: pd.DataFrame) -> np.ndarray:
    """Mask of the rows of a case and state among `holes`."""
    return pd.MultiIndex.from_frame(rows[PLACE].astype({"state": "str"})).isin(
        pd.MultiIndex.from_frame(holes[PLACE])
    )


def _faulty(rows: pd.DataFrame, reason: str) -> pd.DataFrame:
    """Holes, one for each case and state among `rows`."""
    part = rows.drop_duplicates(PLACE)
    return _holes(part["case_id"], part["state"], part["shard"], reason)


def _strangers(rows: pd.DataFrame, tested: set[int]) -> pd.DataFrame:
    return _faulty(rows[~rows["case_id"].isin(tested)], "no test case of this dataset")


def _twofold(rows: pd.DataFrame, tested: set[int]) -> pd.DataFrame:
    """Holes of cases that lie in two shards: neither can be trusted."""
    pairs = rows.loc[rows["shard"] != BASE, ["case_id", "shard"]].drop_duplicates()
    twice = pairs[pairs["case_id"].duplicated(keep=False)].astype({"shard": "str"})
    where = twice.groupby("case_id")["shard"].agg(" and ".join)
    part = rows[rows["case_id"].isin(where.index) & (rows["shard"] != BASE)].drop_duplicates(PLACE)
    reason = "the case is in the shards " + part["case_id"].map(where).astype("str")
    return _holes(part["case_id"], part["state"], part["shard"], reason)


def _not_numbers(rows: pd.DataFrame, tested: set[int]) -> pd.DataFrame:
    """Holes of log-probabilities that are not a number or above 0, but for rounding."""
    sound = rows["logprob"].le(1e-6) & rows["first_logprob"].le(1e-6) & rows["n_tokens"].ge(1)
    return _faulty(rows[~sound], "an observation has no log-probability")


def _repeated(rows: pd.DataFrame, tested: set[int]) -> pd.DataFrame:
    return _faulty(rows[rows.duplicated(OBSERVATION)], "an observation is there twice")


def _counts(rows: pd.DataFrame, expected: Mapping[int, str], weights: np.ndarray | int = 1) -> pd.DataFrame:
    """Observations by case (rows) and state (columns), each counted with its weight."""
    counts = rows[PLACE].assign(n=weights).groupby(PLACE, observed=True)["n"].sum().unstack(fill_value=0)
    counts.columns = counts.columns.astype("str")
    return counts.reindex(index=sorted(expected), columns=list(STATES), fill_value=0)


def _absent(
    rows: pd.DataFrame,
    expected: Mapping[int, str],
    shards: Mapping[str, pd.DataFrame],
    failed: pd.DataFrame,
    states: Sequence[str],
) -> pd.DataFrame:
    """Cases without a state that they must have, unless an edit before it failed."""
    counts = _counts(rows, expected)
    parts = []
    for state in (UNEDITED, *states):
        edits = failed["state"].isin(BUILDS_ON.get(state, ()))
        excused = counts.index.isin(failed.loc[edits, "case_id"])
        case = counts.index[(counts[state] == 0) & ~excused].to_series(index=None).reset_index(drop=True)
        shard = case.map(expected) if state != UNEDITED else pd.Series(BASE, case.index)
        reason = np.where(shard.isin([*shards, BASE]), "not observed", "the shard is missing")
        parts.append(_holes(case, pd.Series(state, case.index), shard, reason))
    return pd.concat(parts, ignore_index=True).sort_values("case_id", kind="stable")


def _partial(rows: pd.DataFrame, expected: Mapping[int, str]) -> pd.DataFrame:
    """States with other observations than the unedited model has: fewer, more, or of other facts."""
    counts = _counts(rows, expected)
    asked = (rows["probe_id"].to_numpy() * 64 + rows["prompt_id"].to_numpy() + 1).astype("uint64")
    sums = _counts(rows, expected, asked**2 * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20))
    parts = []
    for state in STATES[1:]:
        differs = (counts[state] > 0) & (
            (counts[state] != counts[UNEDITED]) | (sums[state] != sums[UNEDITED])
        )
        case = counts.index[differs].to_series(index=None).reset_index(drop=True)
        here, there = (
            counts.loc[case, name].astype("str").to_numpy(dtype=object) for name in (state, UNEDITED)
        )
        reason = here + " observations, " + there + " in the unedited model"
        reason = np.where(here == there, "other facts than in the unedited model", reason)
        parts.append(_holes(case, pd.Series(state, case.index), case.map(expected), reason))
    return pd.concat(parts, ignore_index=True)
