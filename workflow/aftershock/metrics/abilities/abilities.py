"""Every metric of every task along sequences of edits, beside chance, majority and the unedited model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.answers import entropy
from aftershock.metrics.abilities.estimates import (
    Drawn,
    Draws,
    draw_many,
    estimated_means,
    figures_of_many,
    paired_means,
    retained_means,
    widen_flat,
)
from aftershock.metrics.abilities.floors import Floor, floor_of
from aftershock.metrics.abilities.many_items import OF_MANY, RATIOS, Noted, base_of
from aftershock.metrics.abilities.settings import ALL, NOISE, TaskInfo
from aftershock.metrics.comparisons import adjusted
from aftershock.metrics.intervals import estimates
from aftershock.metrics.scales import COUNT, SHARE, Scale
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.tables.abilities import ABILITIES

MISSING = "an order was not measured here"
UNMEASURED = "not measured here"
FAMILY = ["model", "plan", "headline", "whole"]
Run = Mapping[str, Any]
"""Columns that identify a sequence: model, plan, editor and order."""


@dataclass(frozen=True)
class Block:
    """One task of one plan and model: the answers and scores of every editor and order."""

    task: TaskInfo
    model: str
    plan: str
    answers: Mapping[tuple[str, int], pd.DataFrame]
    scores: Mapping[tuple[str, int], pd.DataFrame]

    @property
    def editors(self) -> dict[str, list[int]]:
        """The orders of each editor."""
        found: dict[str, list[int]] = {}
        for editor, order in self.answers:
            found.setdefault(editor, []).append(order)
        return found

    @property
    def checkpoints(self) -> list[int]:
        """All checkpoints that an editor and order has."""
        return sorted({c for rows in self.answers.values() for c in rows["checkpoint"].unique()})


def abilities(
    runs: Sequence[Run],
    answers: Sequence[pd.DataFrame],
    scores: Sequence[pd.DataFrame],
    tasks: Sequence[TaskInfo],
    settings: Statistics = DEFAULTS,
) -> pd.DataFrame:
    """Return ABILITIES of `runs`, whose ITEM_ANSWERS and ITEM_SCORES belong to them one by one.

    Tests are corrected for all of a plan and model, those of headline metrics by themselves.
    """
    parts = [part for block in _blocks(runs, answers, scores, tasks) for part in _of_block(block, settings)]
    if not parts:
        return ABILITIES.empty()
    rows = pd.concat(parts, ignore_index=True)
    rows["whole"] = rows["order"] == ALL
    tested = rows["p"].notna()
    rows["p_adjusted"] = (
        rows[tested].groupby(FAMILY)["p"].transform(lambda p: adjusted(p.to_numpy(), settings.correction))
    )
    rows["significant"] = (rows["p_adjusted"] <= settings.alpha + NOISE).where(tested, None)
    return rows[list(ABILITIES.columns)].astype({"n": "int64", "clusters": "int64"})


def _blocks(
    runs: Sequence[Run],
    answers: Sequence[pd.DataFrame],
    scores: Sequence[pd.DataFrame],
    tasks: Sequence[TaskInfo],
) -> Iterator[Block]:
    for model, plan in dict.fromkeys((run["model"], run["plan"]) for run in runs):
        mine = [
            (run, *given)
            for run, *given in zip(runs, answers, scores, strict=True)
            if (run["model"], run["plan"]) == (model, plan)
        ]
        for task in tasks:
            of_task = [
                ((run["editor"], run["order"]), *(rows[rows["task"] == task.name] for rows in given))
                for run, *given in mine
            ]
            of_task = [each for each in of_task if len(each[1])]
            if of_task:
                tables = ({key: pair[place] for key, *pair in of_task} for place in (0, 1))
                yield Block(task, model, plan, *tables)


def _of_block(block: Block, settings: Statistics) -> Iterator[pd.DataFrame]:
    items = pd.concat(block.answers.values()).drop_duplicates("item_id").sort_values("item_id")
    about = pd.concat(block.answers.values()).groupby("item_id")["about_edit"].any()
    counted = items[~items["item_id"].map(about)].set_index("item_id")
    draws = Draws(settings, (block.model, block.plan, block.task.name))
    for editor, orders in block.editors.items():
        given = {order: block.answers[editor, order] for order in orders}
        shown = _beside(given, counted.index, block.checkpoints)
        for name in block.task.metrics:
            floor = floor_of(block.task, name, counted, settings.level)
            frames = {order: block.scores[editor, order] for order in orders}
            compute = _many if base_of(name) in OF_MANY else _mean
            found = compute(block, name, frames, counted, floor, draws)
            for order, rows in found.items():
                yield pd.concat([rows, shown[order]], axis=1).assign(
                    model=block.model, plan=block.plan, editor=editor, order=order, task=block.task.name,
                    checkpoint=block.checkpoints, metric=name, headline=name == block.task.headline,
                    orders=len(orders) if order == ALL else 1, **vars(floor), left_out=int(about.sum()),
                    note=[_note(n, order, len(orders)) for n in rows["n"]],
                )  # fmt: skip


def _note(n: int, order: str, orders: int) -> str | None:
    if n:
        return None
    return MISSING if order == ALL and orders > 1 else UNMEASURED


def _names(orders: Iterable[int]) -> list[str]:
    """Return the mean over orders, and each of several, as the table calls them."""
    each = [str(order) for order in orders]
    return [ALL, *each] if len(each) > 1 else [ALL]


def _mean(
    block: Block,
    metric: str,
    scores: Mapping[int, pd.DataFrame],
    counted: pd.DataFrame,
    floor: Floor,
    draws: Draws,
) -> dict[str, pd.DataFrame]:
    """Return the figures of a mean over items by order, a row per checkpoint."""
    values = np.stack([_wide(rows, metric, counted.index, block.checkpoints) for rows in scores.values()])
    unedited = _wide_unedited(block, metric, counted.index)
    clusters, scale = counted["cluster"].to_numpy(), scale_of(metric)
    before, above = _unedited(unedited, clusters, scale, floor, draws)
    each = [values.mean(0), *values] if len(values) > 1 else [values[0]]
    found = {}
    for name, one, rows in zip(
        _names(scores), each, estimated_means(values, clusters, scale, draws), strict=True
    ):
        paired = paired_means(one, unedited, clusters, scale, draws)
        rows = pd.concat([rows, paired], axis=1).assign(unedited=before, above_chance=above)
        kept = retained_means(one, unedited, floor.floor, clusters, draws)
        rows = widen_flat(pd.concat([rows, kept], axis=1), before, floor.floor)
        found[name] = _without_own(rows, block.checkpoints, bool(above))
    return found


def _without_own(rows: pd.DataFrame, checkpoints: Sequence[int], able: bool) -> pd.DataFrame:
    """Return `rows` with no test of the unedited model against itself, and nothing retained of no ability."""
    rows = rows.copy()
    rows.loc[(np.array(checkpoints) == 0) | rows["p"].isna(), ["p", "test"]] = None
    if not able:
        rows[["retained", "retained_low", "retained_high"]] = np.nan
    return rows.astype({"p": float})


def _unedited(
    values: np.ndarray, clusters: np.ndarray, scale: Scale, floor: Floor, draws: Draws
) -> tuple[float, bool | None]:
    """Return the unedited model's value, and True if the lower end of a one-sided interval exceeds the
    floor.
    """
    one_sided = replace(draws.settings, level=2 * draws.settings.level - 1)
    row = estimates(values[:, None], clusters, [scale], draws.of("resamples"), one_sided).iloc[0]
    if np.isnan(floor.floor) or not row["n"]:
        return row["value"], None
    return row["value"], bool(row["low"] > floor.floor)


def _many(
    block: Block,
    metric: str,
    scores: Mapping[int, pd.DataFrame],
    counted: pd.DataFrame,
    floor: Floor,
    draws: Draws,
) -> dict[str, pd.DataFrame]:
    """Return the figures of a metric of many items by order, a row per checkpoint."""
    clusters, level = counted["cluster"].to_numpy(), draws.settings.level
    compute, as_perplexity = OF_MANY[base_of(metric)], RATIOS.get(metric)

    def drawn_of(rows: pd.DataFrame, checkpoints: Sequence[int]) -> Drawn:
        mine = rows[(rows["metric"] == metric) & rows["item_id"].isin(counted.index)]
        by_checkpoint = dict(list(mine.groupby("checkpoint")))
        noted = [_noted(by_checkpoint.get(c), counted.index) for c in checkpoints]
        return draw_many(compute, noted, clusters, draws)

    each = {str(order): drawn_of(rows, block.checkpoints) for order, rows in scores.items()}
    observed, resampled = ([getattr(d, name) for d in each.values()] for name in ("observed", "resampled"))
    each[ALL] = Drawn(np.mean(observed, axis=0), np.mean(resampled, axis=0))
    unedited = drawn_of(_unedited_rows(block.scores), [0])
    value, above = unedited.observed[0], None
    if np.isfinite(value) and np.isfinite(floor.floor):
        above = bool(np.nanquantile(unedited.resampled, 1 - level) > floor.floor)
    found = {}
    for name in _names(scores):
        rows = figures_of_many(
            each[name], unedited, floor.floor, len(counted), len(np.unique(clusters)), level, as_perplexity
        ).assign(unedited=value, above_chance=above)
        found[name] = _without_own(rows, block.checkpoints, bool(above or as_perplexity))
    return found


def _noted(rows: pd.DataFrame | None, items: pd.Index) -> Noted | None:
    """Return what is noted of all `items`, or None where some are missing."""
    if rows is None or len(rows) < len(items):
        return None
    return Noted.of(rows.set_index("item_id").loc[items])


def _unedited_rows(frames: Mapping[Any, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of the unedited model, which all editors and orders share."""
    first = next(iter(frames.values()))
    return first[first["checkpoint"] == 0]


def _wide(rows: pd.DataFrame, metric: str, items: pd.Index, checkpoints: Sequence[int]) -> np.ndarray:
    """Return a metric as (items, checkpoints)."""
    wide = rows[rows["metric"] == metric].pivot(index="item_id", columns="checkpoint", values="value")
    return wide.reindex(index=items, columns=list(checkpoints)).to_numpy(float)


def _wide_unedited(block: Block, metric: str, items: pd.Index) -> np.ndarray:
    return _wide(_unedited_rows(block.scores), metric, items, [0])[:, 0]


def scale_of(metric: str) -> Scale:
    """Return the values that a mean over items takes: a share, but for numbers of spans."""
    return COUNT if metric == "spans_released" else SHARE


def _beside(
    given: Mapping[int, pd.DataFrame], items: pd.Index, checkpoints: Sequence[int]
) -> dict[str, pd.DataFrame]:
    """Return how answers look, by order: a row per checkpoint, means over orders first."""
    each = {}
    for order, rows in given.items():
        rows = rows[rows["item_id"].isin(items)]
        by_checkpoint = rows.groupby("checkpoint")
        each[str(order)] = pd.DataFrame(
            {
                "parsed": by_checkpoint["parsed"].mean(),
                "entropy": by_checkpoint["prediction"].agg(entropy),
                "repetition": by_checkpoint["repetition"].mean(),
                "truncated": by_checkpoint["truncated"].agg(lambda cut: float((cut > 0).sum())),
            }
        ).reindex(list(checkpoints))
    mean = sum(each.values()) / len(each)
    found = {}
    for name, rows in {ALL: mean, **each}.items():
        before = {f"unedited_{column}": rows[column].get(0, np.nan) for column in ("entropy", "repetition")}
        whole = rows.assign(truncated=rows["truncated"].fillna(0).round().astype("int64"), **before)
        found[name] = whole.reset_index(drop=True)
    return found
