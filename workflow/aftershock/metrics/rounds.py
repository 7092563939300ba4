"""Metrics of RoundEdit: after an edit and its reversal, is the knowledge what it was?"""

import pandas as pd

from aftershock.metrics import formulas
from aftershock.metrics.conflict import before_and_after
from aftershock.metrics.observed import (
    FIRST,
    RANDOM,
    SECOND,
    UNEDITED,
    Readings,
    case_mean,
    case_sum,
    scores,
)

MARGIN = 0.1
"""A loss below this much of a log-probability counts as noise in `ignore_rate_margin`."""


def score_round(
    cases: pd.DataFrame,
    probabilities: pd.DataFrame,
    known: pd.Series | None = None,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """SCORES of round cases from PROBABILITIES.

    `known`, by (case_id, position) of the role `object`, says which objects the unedited model knows; without
    it no metric is restricted to these.
    """
    read = Readings(cases, probabilities)
    about = cases.set_index("case_id")
    target, original, others = read.one("target"), read.one("original"), read.many("object")
    columns = {
        **_success(target, original),
        **_written(read),
        **_distorted(read, others, SECOND),
        **_ignored(read.cases, others, SECOND, margin),
        **_distribution(read, others),
        "ignore_rate_tie": case_mean(formulas.ties(others[UNEDITED], others[SECOND]), read.cases),
        "failure_rate_by_chance": _by_chance(read.cases, others),
        "known": (about["n_known"] / about["n_objects"]).clip(upper=1),
    }
    for suffix, state in (("after_first", FIRST), ("random", RANDOM)):
        columns |= _distorted(read, others, state, suffix) | _ignored(
            read.cases, others, state, margin, suffix
        )
    if known is not None:
        mask = known.reindex(others.index, fill_value=False).to_numpy(dtype=bool)
        columns |= _distorted(read, others[mask], SECOND, "known")
        columns |= _ignored(read.cases, others[mask], SECOND, margin, "known")
    elsewhere = read.many("control_object")
    columns |= _ignored(read.cases, elsewhere, SECOND, margin, "control")
    columns["distortion_control"] = case_sum(_terms(elsewhere, SECOND), read.cases)
    for name in ("distortion", "ignore_rate", "failure_rate", "ignore_rate_margin", "others_log_ratio"):
        for control in ("control", "random"):
            columns[f"{name}_{control}_difference"] = columns[name] - columns[f"{name}_{control}"]
    for name, fact in (("target", target), ("original", original)):
        columns |= before_and_after(name, fact)
    mean_of_others = others.groupby("case_id").mean().reindex(read.cases)
    return scores(columns | before_and_after("others", mean_of_others))


def _success(target: pd.DataFrame, original: pd.DataFrame) -> dict[str, pd.Series]:
    """Both edits count half. The paper asks whether an edit's object became likelier than before this edit,
    its code whether it is likelier than the object it replaces, both read in the edited model."""
    return {
        "success": (
            formulas.exceeds(target[FIRST], target[UNEDITED])
            + formulas.exceeds(original[SECOND], original[FIRST])
        )
        / 2,
        "success_released": (
            formulas.exceeds(target[FIRST], original[FIRST])
            + formulas.exceeds(original[SECOND], target[SECOND])
        )
        / 2,
        "success_released_tie": (
            formulas.ties(target[FIRST], original[FIRST]) + formulas.ties(original[SECOND], target[SECOND])
        )
        / 2,
        "e1_failed": 1 - formulas.exceeds(target[FIRST], target[UNEDITED]),
    }


def _written(read: Readings) -> dict[str, pd.Series]:
    """Exact matches; `any_exact` accepts each true object, as a multi-label edit promises no more."""
    true = pd.concat([read.many("original", "exact"), read.many("object", "exact")])
    any_true = true.groupby("case_id").max().reindex(read.cases)
    return {
        "e1_exact": read.one("target", "exact")[FIRST],
        "e1_held_out": read.one("target", "held_out")[FIRST],
        "e2_exact": read.one("original", "exact")[SECOND],
        "e2_held_out": read.one("original", "held_out")[SECOND],
        "any_exact_before": any_true[UNEDITED],
        "any_exact": any_true[SECOND],
    }


def _terms(objects: pd.DataFrame, state: str) -> pd.Series:
    """What each object adds to the divergence between the unedited model and `state`."""
    key = objects.index.get_level_values("case_id")
    return formulas.divergence_terms(
        formulas.shares(objects[UNEDITED], key), formulas.shares(objects[state], key)
    )


def _distorted(read: Readings, others: pd.DataFrame, state: str, suffix: str = "") -> dict[str, pd.Series]:
    """Distortion over the object edited back and `others`, none for a case without others."""
    name = f"distortion_{suffix}" if suffix else "distortion"
    objects = pd.concat([read.many("original"), others])
    several = others.groupby("case_id").size().reindex(read.cases).gt(0)
    return {name: case_sum(_terms(objects, state), read.cases).where(several)}


def _distribution(read: Readings, others: pd.DataFrame) -> dict[str, pd.Series]:
    """The distortion per object, as released, and split by what moved.

    The terms of the divergence are never negative and add up: one part is the edited object's gain, one the
    loss of the others, the rest is the edited object's loss and the gain of others.
    """
    objects = pd.concat([read.many("original"), others], keys=["original", "object"], names=["role"])
    key = objects.index.get_level_values("case_id")
    terms = _terms(objects, SECOND)
    change = formulas.shares(objects[SECOND], key) - formulas.shares(objects[UNEDITED], key)
    edited = pd.Series(objects.index.get_level_values("role") == "original", index=objects.index)
    parts = {
        "distortion_overshoot": terms.where(edited & (change > 0) | terms.isna(), 0.0),
        "distortion_loss": terms.where(~edited & (change < 0) | terms.isna(), 0.0),
    }
    several = others.groupby("case_id").size().reindex(read.cases).gt(0)
    released = terms.groupby("case_id").mean(skipna=False).reindex(read.cases)
    sums = {name: case_sum(part, read.cases).where(several) for name, part in parts.items()}
    return {"distortion_released": released.where(several), **sums}


def _ignored(
    cases: pd.Index, objects: pd.DataFrame, state: str, margin: float, suffix: str = ""
) -> dict[str, pd.Series]:
    """How many of `objects` are less likely in `state` than in the unedited model, and by how much."""
    gain = formulas.log_ratio(objects[state], objects[UNEDITED])
    rate = case_mean(formulas.exceeds(objects[UNEDITED], objects[state]), cases)
    columns = {
        "ignore_rate": rate,
        "failure_rate": formulas.majority(rate),
        "ignore_rate_margin": case_mean((gain < -margin).astype(float).where(gain.notna()), cases),
        "others_log_ratio": case_mean(gain, cases),
    }
    return {f"{name}_{suffix}" if suffix else name: values for name, values in columns.items()}


def _by_chance(cases: pd.Index, others: pd.DataFrame) -> pd.Series:
    return formulas.majority_by_chance(others.groupby("case_id").size().reindex(cases, fill_value=0))


def known_objects(probes: pd.DataFrame, scored: pd.DataFrame) -> pd.Series:
    """Whether the unedited model knows each probe of the role `object`, by (case_id, position).

    `scored` has OBJECT_SCORES; an object that it does not list is not known.
    """
    fact = ["subject_id", "relation_id", "object_id"]
    rows = probes.loc[probes["role"] == "object", ["case_id", "position", *fact]]
    known = rows.merge(scored[[*fact, "known"]], on=fact, how="left").set_index(["case_id", "position"])[
        "known"
    ]
    return known.eq(True)
