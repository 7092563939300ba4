"""Scores of the edits of a sequence at its checkpoints, one by one, and the health of the model.

Two meanings of success are kept apart, which tools mix up: `just_edited` is greedy decoding right after an
edit was made, from telemetry; `edited` is the same prompt asked at a checkpoint, when later edits have been
made too.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aftershock.metrics.health import ratio
from aftershock.tables.abilities import SEQUENCE_HEALTH, SEQUENCE_SCORES

STOPPED = "the sequence stopped"


@dataclass(frozen=True)
class Made:
    """Edits that a plan has made at a checkpoint: `positions`, of which `latest` since the one before.

    `turn` is that of a checkpoint which starts from the unedited model, None in a sequence.
    """

    positions: range
    latest: range
    turn: int | None = None


def made_at(ranges: Mapping[int, range], turns: Mapping[int, int]) -> dict[int, Made]:
    """Return what is made at each checkpoint, from the positions of the edits that the model then has.

    `turns` has the turn of every checkpoint that starts from the unedited model; its edits are all the
    latest.
    """
    found, before = {}, 0
    for checkpoint in sorted(ranges):
        positions, turn = ranges[checkpoint], turns.get(checkpoint)
        first = positions.start if turn is not None else max(positions.start, before + 1)
        found[checkpoint] = Made(positions, range(first, positions.stop), turn)
        before = checkpoint
    return found


def sequence_scores(
    edits: pd.DataFrame,
    telemetry: pd.DataFrame,
    observations: pd.DataFrame,
    made: Mapping[int, Made],
) -> pd.DataFrame:
    """Return SEQUENCE_SCORES of one order.

    `edits` are SEQUENCE_EDITS, `observations` SEQUENCE_OBSERVATIONS of the unedited model and of the
    checkpoints, `made` says what a plan has made at each checkpoint.
    """
    subjects = edits.set_index("edit_id")["subject"].map(lambda name: " ".join(name.lower().split()))
    asked = _by_edit(observations)
    parts = [
        _of_checkpoint(checkpoint, what, telemetry, asked)
        for checkpoint, what in made.items()
        if (observations["checkpoint"] == checkpoint).any()
    ]
    if not parts:
        return SEQUENCE_SCORES.empty()
    rows = pd.concat(parts, ignore_index=True)
    rows["cluster"] = rows["edit_id"].map(subjects)
    return rows[list(SEQUENCE_SCORES.columns)]


def _of_checkpoint(checkpoint: int, what: Made, telemetry: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the edits that are made by a checkpoint, without their cluster."""
    rows = made_by(telemetry, what)
    last = rows.groupby("turn")["position"].transform("max")
    about = pd.DataFrame(
        {"edit_id": rows["edit_id"], "age": checkpoint - last, "latest": rows["position"].isin(what.latest)}
    )
    latest = about[about["latest"]].assign(
        measure="just_edited", value=rows.loc[about["latest"], "success"].astype(float)
    )
    here = asked[asked["checkpoint"] == checkpoint].drop(columns="checkpoint")
    return pd.concat([latest, about.merge(here, on="edit_id")]).assign(checkpoint=checkpoint)


def made_by(telemetry: pd.DataFrame, what: Made) -> pd.DataFrame:
    """Return the rows of the edits that are made by a checkpoint."""
    rows = telemetry[telemetry["position"].isin(what.positions)]
    return rows if what.turn is None else rows[rows["turn"] == what.turn]


def _by_edit(observations: pd.DataFrame) -> pd.DataFrame:
    """Return (checkpoint, edit_id, measure, value): means over the probes of one role."""
    key = ["edit_id", "role", "number"]
    before = observations[observations["checkpoint"] == 0].set_index(key)["argmax_match"]
    known = observations.join(before.rename("known"), on=key)["known"].eq(True)
    matched = observations["argmax_match"].astype(float)
    other = observations["other_logprob"].astype(float)
    likelier = (observations["logprob"] > other).astype(float).where(other.notna())
    neighbour = observations["role"] == "neighbour"
    names = {"edit": "edited", "paraphrase": "paraphrases", "neighbour": "neighbours"}
    role = observations["role"].map(names)
    kept = pd.DataFrame(
        {"measure": role.where(~neighbour, "neighbours_kept"), "value": matched.where(~neighbour | known)}
    )
    sided = pd.DataFrame({"measure": role + "_likelier", "value": likelier})
    about = observations[["checkpoint", "edit_id"]]
    rows = pd.concat([about.join(kept), about.join(sided)]).dropna(subset=["measure", "value"])
    return rows.groupby(["checkpoint", "edit_id", "measure"], as_index=False, sort=False)["value"].mean()


# --- health -----------------------------------------------------------------------------------------------


def sequence_health(
    telemetry: pd.DataFrame, made: Mapping[int, Made], observed: Collection[int]
) -> pd.DataFrame:
    """Return SEQUENCE_HEALTH of one order at the checkpoints that were `observed`, all those it reached.

    The first one of `made` that was not is where it ended, after the last edit that is known, and for the
    last reason that edits up to there have.
    """
    ended, reason = None, None
    if missing := sorted(checkpoint for checkpoint in made if checkpoint not in observed):
        rows = made_by(telemetry, made[missing[0]])
        ended = min(missing[0], int(telemetry["position"].max()) if len(telemetry) else 0)
        reasons = rows.sort_values("position")["reason"].dropna()
        reason = str(reasons.iloc[-1]) if len(reasons) else STOPPED
    rows = [
        {"checkpoint": checkpoint, "ended_at": ended, "reason": reason}
        | _health_of(made_by(telemetry, what), what)
        for checkpoint, what in made.items()
        if checkpoint in observed
    ]
    frame = pd.DataFrame(rows, columns=list(SEQUENCE_HEALTH.columns))
    return frame.astype({"ended_at": "Int64"})


def _health_of(rows: pd.DataFrame, what: Made) -> dict[str, float | int | None]:
    if rows.empty:  # the unedited model
        return {"edits": 0, "failed": 0, "norm": 0.0, "perplexity": 1.0, "seconds": 0.0}
    rows = rows.sort_values("position")
    turns, recent = rows.drop_duplicates("turn"), rows["position"].isin(what.latest)
    measured = rows[rows["nll"].notna() & rows["unedited_nll"].notna()].drop_duplicates("turn")
    ratios = ratio(measured["nll"].astype(float), measured["unedited_nll"].astype(float))
    growth = ratios / ratios.shift(fill_value=1.0)
    since = measured["position"].isin(what.latest)
    if what.turn is not None or not since.any():
        since = pd.Series(what.turn is not None, index=measured.index)
    return {
        "edits": len(rows),
        "failed": int(rows["reason"].notna().sum()),
        "norm": _last(rows["total_norm"]),
        "relative_norm": _most(rows.loc[recent, "relative_norm"]),
        "condition": _most(rows.loc[recent, "condition"]),
        "perplexity": _last(ratios),
        "perplexity_worst": _most(ratios[since]),
        "jump": _most(growth[since]),
        "seconds": float(turns["seconds"].sum()),
    }


def _last(values: pd.Series) -> float | None:
    values = values.astype(float).dropna()
    return float(values.iloc[-1]) if len(values) else None


def _most(values: pd.Series) -> float | None:
    values = values.astype(float).replace(np.inf, np.nan).dropna()
    return float(values.max()) if len(values) else None
