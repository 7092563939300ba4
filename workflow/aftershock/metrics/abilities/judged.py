"""Exact match of generated answers beside another model's verdicts on them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.metrics.intervals import estimates
from aftershock.metrics.scales import SHARE
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.seeds import generator
from aftershock.tables.abilities import JUDGED_ANSWERS

ITEM = ["checkpoint", "item_id"]
KEY = ["model", "plan", "editor", "task", "metric", "judge", "prompt_sha256"]


def judged_answers(
    runs: Sequence[Mapping[str, Any]],
    verdicts: Sequence[pd.DataFrame],
    answers: Sequence[pd.DataFrame],
    scores: Sequence[pd.DataFrame],
    tasks: Sequence[TaskInfo],
    settings: Statistics = DEFAULTS,
) -> pd.DataFrame:
    """Return JUDGED_ANSWERS of `runs`; the other tables belong to them one by one.

    `verdicts` have a column `task` beside those of TASK_VERDICTS, `answers` are ITEM_ANSWERS and `scores`
    ITEM_SCORES. Items about edited facts are left out, as everywhere. An answer without a verdict counts in
    the exact score alone.
    """
    headlines, about = {task.name: task.headline for task in tasks}, ("model", "plan", "editor", "order")
    parts = [
        _beside(said, answered, scored, headlines).assign(**{key: str(run[key]) for key in about})
        for run, said, answered, scored in zip(runs, verdicts, answers, scores, strict=True)
        if len(said)
    ]
    if not parts:
        return JUDGED_ANSWERS.empty()
    rows = pd.concat(parts, ignore_index=True)
    found = [row for key, part in rows.groupby(KEY, sort=False) for row in _of_task(key, part, settings)]
    return pd.DataFrame(found, columns=list(JUDGED_ANSWERS.columns))


def _beside(
    verdicts: pd.DataFrame, answers: pd.DataFrame, scores: pd.DataFrame, headlines: Mapping[str, str]
) -> pd.DataFrame:
    """Return the verdicts with the headline metric of the same answers, without items about edited facts."""
    exact = scores[scores["metric"] == scores["task"].map(headlines)]
    exact = exact[["task", *ITEM, "metric", "value"]].rename(columns={"value": "exact"})
    counted = answers.loc[~answers["about_edit"], ["task", *ITEM, "cluster"]]
    rows = verdicts.merge(exact, on=["task", *ITEM]).merge(counted, on=["task", *ITEM])
    return rows.assign(judged=rows["correct"].astype("float64"))


def _of_task(key: tuple[Any, ...], rows: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Yield a row for each checkpoint of one task, editor and judge: means over items and orders."""
    binary = bool(rows["exact"].dropna().isin([0, 1]).all())
    for checkpoint, part in rows.groupby("checkpoint"):
        both = part.dropna(subset=["exact", "judged"])
        agreement = float((both["exact"] == both["judged"]).mean()) if binary and len(both) else np.nan
        rng = generator(settings.seed, "judged", *key[:4])
        clusters = part["cluster"].to_numpy()
        values = part[["exact", "judged"]].to_numpy(float)
        exact, judged = estimates(values, clusters, [SHARE] * 2, rng, settings).to_dict("records")
        yield {
            **dict(zip(KEY, key, strict=True)),
            "checkpoint": checkpoint,
            "exact": exact["value"],
            **{name: judged[name] for name in ("low", "high")},
            "judged": judged["value"],
            "agreement": agreement,
            "kappa": _kappa(both, agreement),
            "n": len(part),
            "unjudged": int(part["judged"].isna().sum()),
            "orders": part["order"].nunique(),
        }


def _kappa(both: pd.DataFrame, agreement: float) -> float:
    """Return Cohen's kappa; missing where one of the two always says the same, so that it has no meaning."""
    exact, judged = both["exact"].mean(), both["judged"].mean()
    by_chance = exact * judged + (1 - exact) * (1 - judged)
    constant = both["exact"].nunique() < 2 or both["judged"].nunique() < 2
    return np.nan if constant else (agreement - by_chance) / (1 - by_chance)
