"""Probabilities of facts from observed log-probabilities.

Observations of one run are laid out as a grid, a row per (case, state, probe) and a column per prompt: then
every mean over prompts is one operation on an array.
"""

from copy import copy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import logsumexp

from aftershock.datasets.table import ALONE, CONTROL, FIRST, RANDOM, SECOND, UNEDITED
from aftershock.matching import goes_on_with
from aftershock.tables.runs import OBSERVATIONS, PROBABILITIES

LEAN = [
    "case_id",
    "state",
    "probe_id",
    "prompt_id",
    "logprob",
    "n_tokens",
    "token_logprobs",
    "argmax_match",
    "tokens_matched",
    "continuation",
]
"""The columns of OBSERVATIONS that metrics need."""

STATES = (UNEDITED, FIRST, SECOND, ALONE, CONTROL, RANDOM)

HELD_OUT = (8, 9, 10)
"""Paraphrases that no stage before scoring shows to a model or uses for a choice."""

KEY = ["case_id", "state", "probe_id"]

SCORINGS = {"geometric_mean": "", "joint": "joint_", "first_token": "first_"}
PROMPTS = {"all": "", "edit": "edit_", "paraphrases": "paraphrase_"}
"""Scorings of tokens and choices of prompts, with the prefixes of their columns of PROBABILITIES."""


def column(scoring: str = "geometric_mean", prompts: str = "all") -> str:
    """The column of PROBABILITIES with p(k) under this scoring and these prompts."""
    return f"{SCORINGS[scoring]}{PROMPTS[prompts]}probability"


def lean(observations: pa.Table | pd.DataFrame) -> pd.DataFrame:
    """OBSERVATIONS rows without their lists: of these only the first one's `first_logprob` is kept.

    ValueError for a state that has no name here.
    """
    if isinstance(observations, pd.DataFrame):
        fields = [OBSERVATIONS.schema.field(name).with_nullable(True) for name in LEAN]
        frame = observations[LEAN].astype({"token_logprobs": object})
        observations = pa.Table.from_pandas(frame, pa.schema(fields), preserve_index=False)
    states = observations["state"].to_pandas()
    if unknown := sorted(set(states.unique()) - set(STATES)):
        raise ValueError(f"observations of state {unknown[0]!r}; known states: {', '.join(STATES)}")
    first = [_first(chunk) for chunk in observations["token_logprobs"].chunks]
    rows = observations.drop_columns(["token_logprobs", "state"]).to_pandas()
    return rows.assign(
        state=pd.Categorical(states, categories=STATES),
        first_logprob=np.concatenate(first) if first else np.empty(0),
    )


def _first(lists: pa.ListArray) -> np.ndarray:
    """The first value of each list, not a number where it is empty."""
    starts, ends = np.asarray(lists.offsets[:-1]), np.asarray(lists.offsets[1:])
    values = np.append(lists.values.to_numpy(zero_copy_only=False), np.nan)
    return np.where(ends > starts, values[starts], np.nan)


@dataclass(frozen=True)
class Facts:
    """Facts of a run in every state they were observed in."""

    table: pd.DataFrame  # PROBABILITIES
    by_prompt: (
        np.ndarray
    )  # (rows, prompts): probability after each prompt, not a number where it was not asked
    exact_by_prompt: np.ndarray  # (rows, prompts): 1 where greedy decoding gives the object, 0 where not


def probabilities(probes: pd.DataFrame, observations: pd.DataFrame) -> Facts:
    """p(k) and exact matches of every probe in every state it was observed in, from lean OBSERVATIONS rows.

    ValueError when a fact was not observed after its edit prompt.
    """
    keys, fact = _facts(observations)
    size = (len(keys), 1 + int(observations["prompt_id"].max()) if len(observations) else 1)
    at = fact, observations["prompt_id"].to_numpy()

    def grid(values: pd.Series) -> np.ndarray:
        laid = np.full(size, np.nan)
        laid[at] = values
        return laid

    tokens = observations["n_tokens"]
    logs = {
        "geometric_mean": grid(observations["logprob"] / tokens),
        "joint": grid(observations["logprob"]),
        "first_token": grid(observations["first_logprob"]),
    }
    matched = grid(observations["argmax_match"].astype(float))
    accuracy = grid(observations["tokens_matched"] / tokens)
    held_out = [prompt for prompt in HELD_OUT if prompt < size[1]]
    if (without := np.isnan(matched[:, 0])).any():
        raise ValueError(f"no observation of the edit prompt for {keys[without].iloc[0].to_dict()}")
    asked = pd.DataFrame({"fact": fact, "prompt": at[1], "n": tokens, "said": observations["continuation"]})
    asked = asked[asked["prompt"] == 0].set_index("fact")
    facts = keys.assign(
        n_tokens=asked["n"],
        log_probability=logsumexp(_zero(logs["geometric_mean"]), axis=1)
        - np.log(np.isfinite(matched).sum(axis=1)),
        **{
            column(scoring, prompts): _mean(np.exp(part))
            for scoring, values in logs.items()
            for prompts, part in (("all", values), ("edit", values[:, :1]), ("paraphrases", values[:, 1:]))
        },
        exact=matched[:, 0] == 1,
        paraphrase=_mean(matched[:, 1:]),
        held_out=_mean(matched[:, held_out]),
        token_accuracy=accuracy[:, 0],
        paraphrase_token_accuracy=_mean(accuracy[:, 1:]),
        continuation=asked["said"].astype("str"),
        row=np.arange(len(keys)),
    )
    table = probes.merge(facts.astype({"state": "str"}), on=["case_id", "probe_id"])
    said, labels = (table[name].astype(object) for name in ("continuation", "object"))
    found = map(goes_on_with, said.where(said.notna(), None), labels)
    table["generated"] = pd.array(list(found), dtype="boolean")
    rows = table["row"]
    return Facts(table[list(PROBABILITIES.columns)], np.exp(logs["geometric_mean"])[rows], matched[rows])


def _facts(observations: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The distinct (case, state, probe), and the index among them of each row."""
    probes = 1 + int(observations["probe_id"].max()) if len(observations) else 1
    states = observations["state"].cat.codes.to_numpy().astype("int64")
    codes = (observations["case_id"].to_numpy() * len(STATES) + states) * probes + observations["probe_id"]
    found, fact = np.unique(codes.to_numpy(), return_inverse=True)
    case_state, probe = np.divmod(found, probes)
    case, state = np.divmod(case_state, len(STATES))
    keys = {"case_id": case, "state": np.array(STATES)[state], "probe_id": probe}
    return pd.DataFrame(keys), fact


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the columns that have a value, not a number in a row without any."""
    there = np.isfinite(values)
    count = there.sum(axis=1)
    total = np.where(there, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def _zero(logs: np.ndarray) -> np.ndarray:
    """`logs` with -inf where there is no value."""
    return np.where(np.isnan(logs), -np.inf, logs)


class Readings:
    """Facts by role: `one` for roles with a fact per case, `many` for several; a column per state."""

    def __init__(self, cases: pd.DataFrame, facts: Facts) -> None:
        self.cases = pd.Index(cases["case_id"], name="case_id")
        self.roles = set(facts.table["role"])
        self._facts = facts
        self._probability = "probability"
        states = pd.Categorical(facts.table["state"], categories=STATES).codes
        rows = facts.table[["case_id", "position"]].assign(state=states)
        self._places = {role: _place(rows.loc[of]) for role, of in facts.table.groupby("role").groups.items()}

    def under(self, name: str) -> "Readings":
        """The same facts with another column of PROBABILITIES as `probability`."""
        other = copy(self)
        other._probability = name
        return other

    def many(self, role: str, quantity: str = "probability") -> pd.DataFrame:
        """`quantity` by (case_id, position)."""
        if role not in self.roles:
            index = pd.MultiIndex.from_arrays([[], []], names=["case_id", "position"])
            return pd.DataFrame(index=index, columns=list(STATES), dtype=float)
        index, place = self._places[role]
        column = self._probability if quantity == "probability" else quantity
        values = self._facts.table[column].to_numpy(dtype=float, na_value=np.nan)
        return pd.DataFrame(np.append(values, np.nan)[place], index=index, columns=list(STATES))

    def one(self, role: str, quantity: str = "probability") -> pd.DataFrame:
        """`quantity` by case_id, empty for a case without this role."""
        return self.many(role, quantity).droplevel("position").reindex(self.cases)

    def by_prompt(self, role: str, state: str, exact: bool = False) -> pd.DataFrame:
        """The probability after each prompt (columns) of a role with a fact per case, by case_id.

        With `exact` 1 where greedy decoding gives the object instead, and 0 where it does not.
        """
        asked = self._facts.exact_by_prompt if exact else self._facts.by_prompt
        prompts = asked.shape[1]
        if role not in self.roles:
            return pd.DataFrame(index=self.cases, columns=range(prompts), dtype=float)
        index, place = self._places[role]
        values = np.vstack([asked, np.full((1, prompts), np.nan)])
        rows = pd.DataFrame(values[place[:, STATES.index(state)]], index=index.droplevel("position"))
        return rows.reindex(self.cases)

    def prompts(self, role: str) -> pd.Series:
        """The prompts that were scored, by (case_id, position)."""
        if role not in self.roles:
            return pd.Series(dtype=str)
        index, place = self._places[role]
        return pd.Series(self._facts.table["prompts"].to_numpy()[place.max(axis=1)], index=index)


def _place(rows: pd.DataFrame) -> tuple[pd.MultiIndex, np.ndarray]:
    """The (case_id, position) of a role, and the table's row of each in each state, -1 where none is."""
    size = 1 + rows["position"].max()
    codes, at = np.unique(rows["case_id"] * size + rows["position"], return_inverse=True)
    place = np.full((len(codes), len(STATES)), -1)
    place[at, rows["state"]] = rows.index
    return pd.MultiIndex.from_arrays(np.divmod(codes, size), names=["case_id", "position"]), place


def scores(columns: dict[str, pd.Series]) -> pd.DataFrame:
    """SCORES in long form, from a series per metric; an infinite value (nothing to divide by) is empty."""
    wide = pd.DataFrame(columns).rename_axis(index="case_id", columns="metric")
    values = wide.to_numpy(dtype=float).copy()
    values[~np.isfinite(values)] = np.nan
    return pd.DataFrame(
        {
            "case_id": np.repeat(wide.index.to_numpy(dtype="int64"), wide.shape[1]),
            "metric": pd.array(np.tile(np.asarray(wide.columns, dtype=object), len(wide)), dtype="str"),
            "value": values.ravel(),
        }
    )


def case_sum(values: pd.Series, cases: pd.Index) -> pd.Series:
    """Sum over the rows of each case: empty for a case without a row or with an empty one."""
    return values.groupby("case_id").sum(skipna=False).reindex(cases)


def case_mean(values: pd.Series, cases: pd.Index) -> pd.Series:
    """Mean over the rows of each case, leaving out empty ones."""
    return values.groupby("case_id").mean().reindex(cases)
