"""The point at which an ability is lost along a sequence of edits, gradually or at once.

An ability is lost at the first checkpoint at which the interval of what it retains (the share above the
floor, see floors.py) lies wholly below `Collapse.below`. The loss is abrupt where at least `Collapse.intact`
was retained one checkpoint of the plan earlier, or where the perplexity of a fixed text grew at once by
`Collapse.perplexity` in between; else gradual. Where checkpoints of the plan are missing in between, a fall
from intact to lost is neither, but unclear. A value on a threshold has not crossed it. A task of texts scored
whole retains the unedited model's perplexity divided by its own, and is lost below 1 / `Collapse.perplexity`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.settings import ALL, NOISE, PERPLEXITY, Collapse, TaskInfo, asked_twice
from aftershock.tables.abilities import COLLAPSES

NONE, GRADUAL, ABRUPT, UNCLEAR, UNMEASURED = "none", "gradual", "abrupt", "unclear", "not measured"
TOGETHER = "all tasks"
RETAINED = ["retained", "retained_low", "retained_high"]


@dataclass(frozen=True)
class Course:
    """A task along one sequence: checkpoints from 0 on, in order, and what is kept at each."""

    checkpoints: Sequence[int]
    lost: Sequence[bool]  # beyond the threshold with the whole interval
    doubtful: Sequence[bool]  # beyond it, but not with the whole interval
    intact: Sequence[bool]


def classify(
    course: Course, planned: Sequence[int], jumps: Mapping[int, float], limits: Collapse
) -> dict[str, Any]:
    """Return kind, checkpoint, before and note of a course.

    `planned` are the checkpoints of the plan; `jumps` the largest growth of perplexity on the way to each.
    """
    steps = sorted({0, *planned})
    if len(course.checkpoints) < 2:
        return {"kind": UNMEASURED, "checkpoint": None, "before": None, "note": None}
    if not any(course.lost):
        doubtful = [c for c, is_it in zip(course.checkpoints, course.doubtful, strict=True) if is_it]
        note = f"beyond the threshold at {doubtful[0]}, but not with its whole interval" if doubtful else None
        return {"kind": NONE, "checkpoint": None, "before": None, "note": note}
    place = list(course.lost).index(True)
    point, before = course.checkpoints[place], course.checkpoints[place - 1]
    missing = [c for c in steps if before < c < point]
    jumped = any(jumps.get(c, 0) >= limits.perplexity - NOISE for c in [*missing, point])
    notes = [f"not measured in between: {', '.join(map(str, missing))}"] if missing else []
    if jumped:
        notes.append("perplexity grew at once")
    elif course.intact[place - 1] and missing:
        return {"kind": UNCLEAR, "checkpoint": point, "before": before, "note": "; ".join(notes)}
    again = [c for c, kept in zip(course.checkpoints[place:], course.intact[place:], strict=True) if kept]
    notes += [f"intact again at {again[0]}"] if again else []
    abrupt = jumped or course.intact[place - 1]
    return {
        "kind": ABRUPT if abrupt else GRADUAL, "checkpoint": point, "before": before,
        "note": "; ".join(notes) or None,
    }  # fmt: skip


def collapses(
    abilities: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    health: Sequence[pd.DataFrame],
    planned: Mapping[str, Sequence[int]],
    tasks: Sequence[TaskInfo],
    limits: Collapse,
) -> pd.DataFrame:
    """Return COLLAPSES of every task, and of all together, from the headline metrics in ABILITIES.

    SEQUENCE_HEALTH belongs to `runs` one by one; `planned` are the checkpoints of each plan. All together are
    the mean of what tasks retain that the unedited model does, without what `asked_twice` names.
    """
    headline = abilities[abilities["headline"] & (abilities["n"] > 0)]
    rows = []
    for key, part in headline.groupby(["model", "plan", "editor", "order"], sort=False):
        about = dict(zip(("model", "plan", "editor", "order"), key, strict=True))
        mine = [
            frame
            for run, frame in zip(runs, health, strict=True)
            if (run["model"], run["plan"], run["editor"]) == key[:3] and key[3] in (ALL, str(run["order"]))
        ]
        jumps = pd.concat(mine).groupby("checkpoint")["jump"].max().dropna().to_dict() if mine else {}
        end = _end(mine)
        for task, course, kept in _courses(part, tasks, limits):
            found = classify(course, planned[key[1]], jumps, limits)
            rows.append({**about, "task": task, **found, **_kept_at(kept, found), **end})
    frame = pd.DataFrame(rows, columns=list(COLLAPSES.columns))
    return frame.astype(dict.fromkeys(("checkpoint", "before", "ended_at"), "Int64"))


def _courses(
    rows: pd.DataFrame, tasks: Sequence[TaskInfo], limits: Collapse
) -> Iterator[tuple[str, Course, pd.DataFrame]]:
    """Yield each task with its course and what it retains by checkpoint, then all together."""
    able, aside = [], asked_twice(tasks)
    texts = {task.name for task in tasks if task.kind == PERPLEXITY}
    for task, part in rows.groupby("task", sort=False):
        part = part.sort_values("checkpoint").set_index("checkpoint")
        kept, text = part[RETAINED].dropna(), task in texts
        yield str(task), _course(kept, 1 / limits.perplexity if text else limits.below, limits.intact), kept
        if len(kept) and not text and task not in aside:
            able.append(kept)
    kept = together(able)
    yield TOGETHER, _course(kept, limits.below, limits.intact), kept


def together(tasks: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean of what several tasks retain at the checkpoints that all have, with its interval.

    A score below the floor retains nothing: how far below says how the task is scored, and one task would
    outweigh the others. The tasks have items of their own, so that their errors are independent and their
    squares add up.
    """
    if not tasks:
        return pd.DataFrame(columns=RETAINED, dtype=float)
    shared = sorted(set.intersection(*(set(task.index) for task in tasks)))
    value, low, high = (
        np.stack([task.loc[shared, name] for task in tasks]).astype(float).clip(min=0) for name in RETAINED
    )
    mean, k = value.mean(0), len(tasks)
    below, above = (np.sqrt(((value - end) ** 2).sum(0)) / k for end in (low, high))
    return pd.DataFrame(
        {"retained": mean, "retained_low": mean - below, "retained_high": mean + above}, index=shared
    )


def _course(kept: pd.DataFrame, below: float, intact: float) -> Course:
    below -= NOISE
    lost = kept["retained_high"] < below
    return Course(
        [int(c) for c in kept.index],
        list(lost),
        list((kept["retained"] < below) & ~lost),
        list(kept["retained"] >= intact - NOISE),
    )


def _kept_at(kept: pd.DataFrame, found: Mapping[str, Any]) -> dict[str, float]:
    """Return what is retained at the checkpoint of a loss, or at the last one, and before."""
    at = found["checkpoint"] if found["checkpoint"] is not None else (kept.index[-1] if len(kept) else None)
    if at is None:
        return {}
    before = {} if found["before"] is None else {"retained_before": kept.at[found["before"], "retained"]}
    return {**before, **{name: kept.at[at, name] for name in RETAINED}}


def _end(health: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Return after how many edits the first of some sequences stopped early, and why."""
    ended = pd.concat(health)[["ended_at", "reason"]].dropna(subset="ended_at") if health else pd.DataFrame()
    if ended.empty:
        return {"ended_at": None, "reason": None}
    first = ended.sort_values("ended_at").iloc[0]
    return {"ended_at": int(first["ended_at"]), "reason": first["reason"]}
