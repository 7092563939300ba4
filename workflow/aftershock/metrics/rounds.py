"""Metrics of RoundEdit: the knowledge of a model after an edit and its reversal."""

import pandas as pd

from aftershock.metrics import formulas
from aftershock.metrics.conflict import before_and_after, given_first
from aftershock.metrics.efficacy import written
from aftershock.metrics.observed import (
    FIRST,
    RANDOM,
    SECOND,
    UNEDITED,
    Facts,
    Readings,
    case_mean,
    case_sum,
    scores,
)

MARGIN = 0.1
"""A loss below this much of a log-probability counts as noise in `ignore_rate_margin`."""

LOSSES = ("ignore_rate", "failure_rate", "ignore_rate_margin", "others_log_ratio")
CONDITIONAL = (
    "success",
    "success_released",
    "distortion",
    "distortion_released",
    "ignore_rate",
    "failure_rate",
)
"""Metrics that are also given for the cases whose first edit worked."""


def score_round(
    cases: pd.DataFrame,
    facts: Facts,
    known: pd.Series | None = None,
    margin: float = MARGIN,
    held_out: pd.Series | None = None,
) -> pd.DataFrame:
    """SCORES of round cases.

    `known` and `held_out`, by (case_id, position) of the role `object`, say which objects the unedited model
    knows and which the second edit was not given; without one no metric is restricted to these.
    """
    read = Readings(cases, facts)
    about = cases.set_index("case_id")
    target, original, others = read.one("target"), read.one("original"), read.many("object")
    columns = {
        **round_headlines(read),
        **_ties(read),
        **written("e1", read, "target", ["original"], FIRST),
        **written("e2", read, "original", ["target"], SECOND),
        **_any_written(read),
        **_ignored(read, "object", SECOND, margin),
        **_parts(read),
        "ignore_count": case_sum(formulas.exceeds(others[UNEDITED], others[SECOND]), read.cases),
        "e1_failed": 1 - formulas.exceeds(target[FIRST], target[UNEDITED]),
        "known": (about["n_known"] / about["n_objects"]).clip(upper=1),
        **_by_chance(read, others),
    }
    for suffix, state in (("after_first", FIRST), ("random", RANDOM)):
        columns |= _distorted(read, state, suffix) | _ignored(read, "object", state, margin, suffix)
    for suffix, chosen in (("known", known), ("held_out", held_out)):
        if chosen is not None:
            mask = chosen.reindex(others.index, fill_value=False)
            columns |= _distorted(read, SECOND, suffix, mask)
            columns |= _ignored(read, "object", SECOND, margin, suffix, mask)
    columns |= _ignored(read, "control_object", SECOND, margin, "control")
    columns["distortion_control"] = case_sum(_terms(read.many("control_object"), SECOND), read.cases)
    for name in ("distortion", *LOSSES):
        for control in ("control", "random"):
            columns[f"{name}_{control}_difference"] = columns[name] - columns[f"{name}_{control}"]
    for name in ("ignore_rate", "failure_rate"):
        columns[f"{name}_by_chance_difference"] = columns[name] - columns[f"{name}_by_chance"]
    for name, fact in (("target", target), ("original", original)):
        columns |= before_and_after(name, fact)
    columns |= before_and_after("others", others.groupby("case_id").mean().reindex(read.cases))
    return scores(columns | given_first(columns, CONDITIONAL))


def round_headlines(read: Readings) -> dict[str, pd.Series]:
    """The metrics that the paper's Table 2 shows, as it defines them and as its code computes them.

    Both edits count half in success. The paper asks whether an edit's object became likelier than before this
    edit, its code whether it is likelier than the object it replaces, both read in the edited model.
    """
    target, original, others = read.one("target"), read.one("original"), read.many("object")
    success = (
        formulas.exceeds(target[FIRST], target[UNEDITED])
        + formulas.exceeds(original[SECOND], original[FIRST])
    ) / 2
    released = (
        formulas.exceeds(target[FIRST], original[FIRST]) + formulas.exceeds(original[SECOND], target[SECOND])
    ) / 2
    rate = case_mean(formulas.exceeds(others[UNEDITED], others[SECOND]), read.cases)
    distorted = _distorted(read, SECOND)["distortion"]
    objects = others.groupby("case_id").size().reindex(read.cases) + 1
    return {
        "success": success,
        "success_released": released,
        "distortion": distorted,
        "distortion_released": distorted / objects,
        "ignore_rate": rate,
        "failure_rate": formulas.majority(rate),
    }


def _ties(read: Readings) -> dict[str, pd.Series]:
    """Shares of undecided comparisons."""
    target, original, others = read.one("target"), read.one("original"), read.many("object")
    moved = formulas.ties(target[FIRST], target[UNEDITED]) + formulas.ties(original[SECOND], original[FIRST])
    released = formulas.ties(target[FIRST], original[FIRST]) + formulas.ties(original[SECOND], target[SECOND])
    return {
        "success_tie": moved / 2,
        "success_released_tie": released / 2,
        "ignore_rate_tie": case_mean(formulas.ties(others[UNEDITED], others[SECOND]), read.cases),
    }


def _any_written(read: Readings) -> dict[str, pd.Series]:
    """Success of the second edit if any true object counts, as a multi-label edit promises no more."""
    true = pd.concat([read.many("original", "exact"), read.many("object", "exact")])
    any_true = true.groupby("case_id").max().reindex(read.cases)
    return {"any_exact_before": any_true[UNEDITED], "any_exact": any_true[SECOND]}


def _terms(objects: pd.DataFrame, state: str) -> pd.Series:
    """Term of each object in the divergence between the unedited model and `state`."""
    key = objects.index.get_level_values("case_id")
    return formulas.divergence_terms(
        formulas.shares(objects[UNEDITED], key), formulas.shares(objects[state], key)
    )


def _several(read: Readings, others: pd.DataFrame) -> pd.Series:
    """True for each case with a true object beside the one edited back."""
    return others.groupby("case_id").size().reindex(read.cases).gt(0)


def _distorted(
    read: Readings, state: str, suffix: str = "", mask: pd.Series | None = None
) -> dict[str, pd.Series]:
    """Distortion over the object edited back and the others (of `mask`), none for a case without others."""
    others = read.many("object")
    if mask is not None:
        others = others[mask.to_numpy(dtype=bool)]
    objects = pd.concat([read.many("original"), others])
    name = f"distortion_{suffix}" if suffix else "distortion"
    return {name: case_sum(_terms(objects, state), read.cases).where(_several(read, others))}


def _parts(read: Readings) -> dict[str, pd.Series]:
    """The distortion split by what moved; the four parts add up to it.

    The divergence is a sum over objects of terms that are never negative. A term belongs to the object edited
    back or to another one, and that object's share is larger than before or it is not.
    """
    others = read.many("object")
    objects = pd.concat([read.many("original"), others], keys=["original", "object"], names=["role"])
    key = objects.index.get_level_values("case_id")
    terms = _terms(objects, SECOND)
    gained = formulas.shares(objects[SECOND], key) > formulas.shares(objects[UNEDITED], key)
    edited = pd.Series(objects.index.get_level_values("role") == "original", index=objects.index)
    chosen = {
        "overshoot": edited & gained,
        "undershoot": edited & ~gained,
        "gain": ~edited & gained,
        "loss": ~edited & ~gained,
    }
    several = _several(read, others)
    return {
        f"distortion_{name}": case_sum(terms.where(part | terms.isna(), 0.0), read.cases).where(several)
        for name, part in chosen.items()
    }


def _ignored(
    read: Readings, role: str, state: str, margin: float, suffix: str = "", mask: pd.Series | None = None
) -> dict[str, pd.Series]:
    """Share of objects of `role` less likely in `state` than in the unedited model, and their mean change."""
    objects, logs = read.many(role), read.many(role, "log_probability")
    if mask is not None:
        objects, logs = objects[mask.to_numpy(dtype=bool)], logs[mask.to_numpy(dtype=bool)]
    gain = logs[state] - logs[UNEDITED]
    rate = case_mean(formulas.exceeds(objects[UNEDITED], objects[state]), read.cases)
    columns = {
        "ignore_rate": rate,
        "failure_rate": formulas.majority(rate),
        "ignore_rate_margin": case_mean((gain < -margin).astype(float).where(gain.notna()), read.cases),
        "others_log_ratio": case_mean(gain, read.cases),
    }
    return {f"{name}_{suffix}" if suffix else name: values for name, values in columns.items()}


def _by_chance(read: Readings, others: pd.DataFrame) -> dict[str, pd.Series]:
    """Ignore and failure rate expected when each object gains or loses with chance 0.5."""
    n = others.groupby("case_id").size().reindex(read.cases, fill_value=0)
    half = pd.Series(0.5, index=n.index).where(n > 0)
    return {"ignore_rate_by_chance": half, "failure_rate_by_chance": formulas.majority_by_chance(n)}


def known_objects(probes: pd.DataFrame, scored: pd.DataFrame) -> pd.Series:
    """True for each probe of the role `object` that the unedited model knows, by (case_id, position).

    `scored` has OBJECT_SCORES; an object that it does not list is not known.
    """
    fact = ["subject_id", "relation_id", "object_id"]
    rows = probes.loc[probes["role"] == "object", ["case_id", "position", *fact]]
    known = rows.merge(scored[[*fact, "known"]], on=fact, how="left").set_index(["case_id", "position"])[
        "known"
    ]
    return known.eq(True)


def held_out_objects(probes: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    """True for each probe of the role `object` that the second edit was not given, by (case_id, position).

    `second` has the EDITS rows that make up the second edit of each case, see `second_edit.second_rows`.
    """
    objects = probes.loc[probes["role"] == "object", ["case_id", "position", "object"]]
    given = pd.MultiIndex.from_frame(second[["case_id", "target_new"]])
    index = pd.MultiIndex.from_frame(objects[["case_id", "position"]])
    return pd.Series(~pd.MultiIndex.from_frame(objects[["case_id", "object"]]).isin(given), index=index)
