"""What was observed, checked for holes, and turned into probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aftershock.tables import PROBABILITIES

COLUMNS = ["case_id", "state", "probe_id", "prompt_id", "logprob", "n_tokens", "argmax_match"]
"""The columns of OBSERVATIONS that metrics need."""

UNEDITED, FIRST, SECOND, ALONE, CONTROL, RANDOM = STATES = ("0", "1", "2", "e2_only", "control", "random")
BUILDS_ON = {FIRST: (FIRST,), SECOND: (FIRST, SECOND), ALONE: (ALONE,)}
"""States that every edited case must have, and the edits whose failure excuses their absence."""

HELD_OUT = (8, 9, 10)
"""Paraphrases that no stage before scoring shows to a model or uses for a choice."""

KEY = ["case_id", "state", "probe_id"]


def gather(
    cases: pd.DataFrame,
    unedited: pd.DataFrame,
    shards: Mapping[str, pd.DataFrame],
    ranges: Sequence[str],
    failed: pd.DataFrame,
    states: Sequence[str],
) -> pd.DataFrame:
    """All observations of a run, state 0 among them; ValueError when a case is missing, twice or incomplete.

    `shards` maps the range in a shard's file name to its OBSERVATIONS rows, `ranges` lists the shards there
    must be, `failed` has the TELEMETRY rows with a reason: their states may be absent. `states` must
    otherwise be there for each test case of the ranges, with the probes and prompts of the unedited model.
    """
    if missing := sorted(set(ranges) - set(shards)):
        raise ValueError(f"shard {missing[0]} is missing; run its edits before scoring")
    tested = set(cases.loc[cases["split"] == "test", "case_id"])
    seen: dict[int, str] = {}
    for shard, rows in shards.items():
        for case in rows["case_id"].unique():
            if case not in tested:
                raise ValueError(f"shard {shard} holds case {case}, which is no test case of this dataset")
            if case in seen:
                raise ValueError(f"case {case} is in the shards {seen[case]} and {shard}; delete one of them")
            seen[case] = shard
    expected = {case: shard for shard in ranges for case in cases_in(shard) if case in tested}
    rows = pd.concat([*shards.values(), unedited[unedited["case_id"].isin(expected)]], ignore_index=True)
    _check_complete(rows, expected, failed, states)
    return rows


def cases_in(shard: str) -> range:
    """The case ids of a shard named `00400-00499`, both ends included."""
    first, last = shard.split("-")
    return range(int(first), int(last) + 1)


def _check_complete(
    rows: pd.DataFrame, expected: Mapping[int, str], failed: pd.DataFrame, states: Sequence[str]
) -> None:
    unusable = rows["logprob"].isna() | rows["n_tokens"].lt(1)
    if unusable.any():
        raise ValueError(
            f"an observation has no log-probability: {rows.loc[unusable, KEY].iloc[0].to_dict()}"
        )
    key = [*KEY, "prompt_id"]
    if (repeated := rows.duplicated(key)).any():
        raise ValueError(f"an observation is there twice: {rows.loc[repeated, key].iloc[0].to_dict()}")
    counts = rows.groupby(["case_id", "state"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=sorted(expected), columns=list(STATES), fill_value=0)
    excused = set(zip(failed["case_id"], failed["state"], strict=True))
    for state in (UNEDITED, *states):
        for case in counts.index[counts[state] == 0]:
            if not any((case, edit) in excused for edit in BUILDS_ON.get(state, ())):
                raise ValueError(f"shard {expected[case]} lacks case {case} in state {state}; run it again")
    for state in STATES:
        partial = (counts[state] > 0) & (counts[state] != counts[UNEDITED])
        if partial.any():
            case = partial.idxmax()
            found, wanted = counts.loc[case, [state, UNEDITED]]
            raise ValueError(
                f"shard {expected[case]}: case {case} has {found} observations in state {state} and "
                f"{wanted} in the unedited model; run both again"
            )


def probabilities(probes: pd.DataFrame, observations: pd.DataFrame) -> pd.DataFrame:
    """PROBABILITIES: p(k) and exact matches of every probe in every state it was observed in."""
    rows = observations.assign(
        probability=np.exp(observations["logprob"] / observations["n_tokens"]),
        match=observations["argmax_match"].astype(float),
    )
    edit = rows[rows["prompt_id"] == 0].set_index(KEY)
    paraphrases = rows[rows["prompt_id"] > 0]
    held_out = rows[rows["prompt_id"].isin(HELD_OUT)]
    facts = pd.DataFrame(
        {
            "probability": rows.groupby(KEY)["probability"].mean(),
            "edit_probability": edit["probability"],
            "exact": edit["match"],
            "paraphrase": paraphrases.groupby(KEY)["match"].mean(),
            "held_out": held_out.groupby(KEY)["match"].mean(),
        }
    )
    if (without := facts["exact"].isna()).any():
        raise ValueError(
            f"no observation of the edit prompt for {dict(zip(KEY, without.idxmax(), strict=True))}"
        )
    table = probes.merge(facts.reset_index(), on=["case_id", "probe_id"])
    return table.assign(exact=table["exact"].astype(bool))[list(PROBABILITIES.columns)]


class Readings:
    """Probabilities by role: `one` for roles with a fact per case, `many` for several; a column per state."""

    def __init__(self, cases: pd.DataFrame, probabilities: pd.DataFrame) -> None:
        self.cases = pd.Index(cases["case_id"], name="case_id")
        self.roles = set(probabilities["role"])
        self._rows = probabilities.set_index(["role", "case_id", "position"]).sort_index()

    def many(self, role: str, quantity: str = "probability") -> pd.DataFrame:
        """`quantity` by (case_id, position)."""
        if role not in self.roles:
            index = pd.MultiIndex.from_arrays([[], []], names=["case_id", "position"])
            return pd.DataFrame(index=index, columns=list(STATES), dtype=float)
        rows = self._rows.loc[role].set_index("state", append=True)[quantity].astype(float)
        return rows.unstack("state").reindex(columns=list(STATES))

    def one(self, role: str, quantity: str = "probability") -> pd.DataFrame:
        """`quantity` by case_id, empty for a case without this role."""
        return self.many(role, quantity).droplevel("position").reindex(self.cases)

    def prompts(self, role: str) -> pd.Series:
        """Which prompts were scored, by (case_id, position)."""
        rows = self._rows.loc[role]["prompts"] if role in self.roles else pd.Series(dtype=str)
        return rows[~rows.index.duplicated()]


def scores(columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """SCORES in long form, from a series per metric; an infinite value (nothing to divide by) is empty."""
    wide = pd.DataFrame(dict(columns)).rename_axis(index="case_id", columns="metric")
    wide = wide.astype(float).replace([np.inf, -np.inf], np.nan)
    long = wide.stack(future_stack=True).rename("value").reset_index()
    return long.astype({"case_id": "int64", "metric": "str"})


def case_sum(values: pd.Series, cases: pd.Index) -> pd.Series:
    """Sum over the rows of each case: empty for a case without a row or with an empty one."""
    return values.groupby("case_id").sum(skipna=False).reindex(cases)


def case_mean(values: pd.Series, cases: pd.Index) -> pd.Series:
    """Mean over the rows of each case, leaving out empty ones."""
    return values.groupby("case_id").mean().reindex(cases)
