"""Outcomes by which the explorer filters cases, and the cases that a run lacks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aftershock.datasets.table import title_of
from aftershock.metrics.catalogue import metric

OUTCOMES = (
    ("edit_failed", "an edit broke off"),
    ("success", "each edit made its object likelier"),
    ("e1_exact", "the first edit's object was the answer"),
    ("e2_exact", "the second edit's object is the answer"),
    ("conflict_score_exp", "sides with the second edit, asked its way"),
    ("conflict_score_imp", "sides with the second edit, asked the first one's way"),
    ("single_exact", "the single edit's object is the answer"),
    ("failure_rate", "most other objects became less likely"),
)
"""Metrics that a case answers with yes (1) or no, in words."""

NONE, NO, YES = 0, 1, 2
ABSENT = -1
"""The flags of a pair that was not observed."""


def outcomes_in(names: Sequence[str]) -> list[dict[str, Any]]:
    """The outcomes among the metrics `names`, with their digit in `flags` and their definition."""
    return [
        {"name": name, "words": words, "about": metric(name).about, "place": place}
        for place, (name, words) in enumerate(OUTCOMES)
        if name in names
    ]


def flags(scores: pd.DataFrame, cases: Sequence[int]) -> list[int]:
    """Every outcome of each case as one number in base 4, the first of OUTCOMES its last digit.

    A digit is 0 without a value, 1 for no, 2 for yes. `scores` has SCORES; ABSENT marks a case without any.
    """
    wide = scores.pivot(index="case_id", columns="metric", values="value").reindex(cases)
    total = np.zeros(len(wide), dtype=np.int64)
    for place, (name, _) in enumerate(OUTCOMES):
        if name in wide:
            value = wide[name].to_numpy(dtype=float)
            total += 4**place * np.where(np.isnan(value), NONE, np.where(value >= 1, YES, NO))
    seen = np.isin(cases, scores["case_id"].unique()) & ~_missing(wide)
    return np.where(seen, total, ABSENT).tolist()


def _missing(wide: pd.DataFrame) -> np.ndarray:
    """Mask of the cases that the scores themselves mark as missing."""
    if "missing" not in wide:
        return np.zeros(len(wide), dtype=bool)
    return wide["missing"].to_numpy(dtype=float) == 1


def lacking(
    run: Mapping[str, Any], cases: Sequence[int], found: Sequence[int], holes: pd.DataFrame | None = None
) -> str | None:
    """A sentence about the test cases that a run has no scores of; None for a complete run.

    `holes` has HOLES, whose reasons are given where it is not a failed edit.
    """
    absent = [case for case, flag in zip(cases, found, strict=True) if flag == ABSENT]
    if not absent:
        return None
    seed = f", seed {run['seed']}" if run["seed"] else ""
    return (
        f"Incomplete: {run['editor']} on {run['model']}{seed} has {len(cases) - len(absent)} of "
        f"{len(cases)} {title_of(run['dataset'])} cases; missing: {spans(absent)}{_why(holes)}."
    )


def _why(holes: pd.DataFrame | None, most: int = 3) -> str:
    """The shards of `holes` with their reasons, the first `most` of them."""
    if holes is None or holes["failed"].all():
        return ""
    pairs = holes.loc[~holes["failed"], ["shard", "reason"]].drop_duplicates()
    told = [f"{shard}: {reason}" for shard, reason in pairs.head(most).itertuples(index=False)]
    more = [f"and {len(pairs) - most} more"] if len(pairs) > most else []
    return f" ({'; '.join([*told, *more])})"


def spans(cases: Sequence[int], most: int = 6) -> str:
    """Case numbers as spans, such as 0–31, 64; the first `most` of them."""
    parts: list[list[int]] = []
    for case in sorted(cases):
        if parts and case == parts[-1][1] + 1:
            parts[-1][1] = case
        else:
            parts.append([case, case])
    texts = [str(a) if a == b else f"{a}\N{EN DASH}{b}" for a, b in parts]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more spans" if len(texts) > most else "")
