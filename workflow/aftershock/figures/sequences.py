"""Curves over the number of edits: abilities, retention of edits, and the health of the model.

Few methods are lines in a panel for each task or measure; many are a panel each, with a line for each task or
measure, as more lines in one panel cannot be distinguished. Checkpoints are evenly spaced, whatever lies
between.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from aftershock.datasets.table import DATASETS, PLACES, title_of
from aftershock.figure_names import figure_name
from aftershock.figures.panels import FEW, FIGURES, Panel, draw
from aftershock.figures.shared import Named
from aftershock.figures.style import look
from aftershock.labels import printable
from aftershock.metrics.abilities.among import METRICS
from aftershock.metrics.abilities.curves import HEALTH, MEASURES
from aftershock.metrics.abilities.settings import ALL, TaskInfo
from aftershock.metrics.catalogue import find_metric

EDITS_SHOWN = ("just_edited", "latest", "survival", "paraphrases", "neighbours_kept")
HEALTH_SHOWN = ("perplexity", "relative_norm", "condition")


def sequence_figures(tables: Mapping[str, pd.DataFrame], tasks: Sequence[TaskInfo]) -> list[Named]:
    """Return every figure of SEQUENCE_KINDS of each model and plan, by name; `tables` by file name."""
    curves, lost = tables["curves"], tables["collapses"]
    found = pd.concat([tables["abilities"], curves])[["model", "plan"]].drop_duplicates()
    figures: list[Named] = []
    for model, plan in found.itertuples(index=False):
        given = tables["abilities"], tables["reported_abilities"], lost, model, plan, tasks
        makers = {
            "abilities": partial(ability_curves, *given),
            "edits": partial(edit_curves, curves, lost, model, plan),
            "course": partial(health_curves, curves, lost, model, plan),
            "unrelated": partial(unrelated_curves, curves, model, plan),
        }
        figures += [(figure_name(model, plan, kind), make) for kind, make in makers.items()]
    return figures


def ability_curves(
    abilities: pd.DataFrame,
    reported: pd.DataFrame,
    collapses: pd.DataFrame,
    model: str,
    plan: str,
    tasks: Sequence[TaskInfo],
) -> Figure | None:
    """Return the headline metric of every task over the number of edits; None without any value.

    The tables are ABILITIES, REPORTED_ABILITIES and COLLAPSES. With many methods it is the share retained.
    """
    rows = _of(abilities, model, plan)
    rows = rows[rows["headline"] & (rows["n"] > 0)]
    if rows.empty:
        return None
    editors, ended = list(dict.fromkeys(rows["editor"])), _ended(_of(collapses, model, plan))
    shown = [task for task in tasks if task.name in set(rows["task"])]
    if len(editors) <= FEW:
        beside = reported[(reported["model"] == model) & (reported["plan"] == plan)]
        panels = [_task_panel(task, rows[rows["task"] == task.name], beside, ended) for task in shown]
        return draw(panels, look(editors), f"Abilities along {plan} — {printable(model)}")
    names = {task.name: task.words for task in shown}
    panels = []
    for editor, part in rows.groupby("editor", sort=False):
        kept = part.drop(columns=FIGURES).rename(
            columns={"retained": "value", "retained_low": "low", "retained_high": "high"}
        )
        lines = {
            names[task]: points for task, points in kept.dropna(subset="value").groupby("task", sort=False)
        }
        end = {name: ended[str(editor)] for name in lines if editor in ended}
        panels.append(Panel(str(editor), lines, {"all": 1.0, "by accident": 0.0}, ended=end))
    title = f"Share of abilities retained along {plan} — {printable(model)}"
    return draw(panels, look(list(names.values())), title, lowest=-0.25, highest=1.3)


def _task_panel(
    task: TaskInfo, rows: pd.DataFrame, reported: pd.DataFrame, ended: Mapping[str, int]
) -> Panel:
    first = rows.iloc[0]
    levels = {"by accident": first["floor"], "unedited": first["unedited"]}
    beside = reported[reported["task"] == task.name].rename(columns={"edits": "checkpoint"})
    beside = beside.drop(columns=FIGURES, errors="ignore").rename(columns={"reported": "value"})
    weak = (
        first["above_chance"] is not None and not pd.isna(first["above_chance"]) and not first["above_chance"]
    )
    return Panel(
        f"{task.words} ({task.headline.replace('_', ' ')})",
        {str(editor): part for editor, part in rows.groupby("editor", sort=False)},
        {name: value for name, value in levels.items() if np.isfinite(value)},
        {str(editor): part for editor, part in beside.groupby("editor") if editor},
        ended,
        "unedited model no better than by accident" if weak else "",
        task.kind == "perplexity",
    )  # fmt: skip


def edit_curves(curves: pd.DataFrame, collapses: pd.DataFrame, model: str, plan: str) -> Figure | None:
    """Return the retention of the edits themselves over the number of edits, from CURVES."""
    rows = _of(curves, model, plan)
    rows = rows[rows["measure"].isin(EDITS_SHOWN) & (rows["age"] == ALL)]
    title = f"What becomes of edits along {plan} — {printable(model)}"
    return _curves(rows, EDITS_SHOWN, MEASURES, _ended(_of(collapses, model, plan)), title)


def health_curves(curves: pd.DataFrame, collapses: pd.DataFrame, model: str, plan: str) -> Figure | None:
    """Return the health of the model over the number of edits, from CURVES; bars span the orders."""
    rows = _of(curves, model, plan)
    rows = rows[rows["measure"].isin(HEALTH_SHOWN) & (rows["value"] > 0)]
    if rows["editor"].nunique() > FEW:
        rows = rows[rows["measure"] == HEALTH_SHOWN[0]]
    title = f"Health of the model along {plan} — {printable(model)}"
    return _curves(rows, HEALTH_SHOWN, HEALTH, _ended(_of(collapses, model, plan)), title, True)


def unrelated_curves(curves: pd.DataFrame, model: str, plan: str) -> Figure | None:
    """Return metrics of cases with unrelated edits around them over the number of those, from CURVES.

    A column for each place of the edits, and a row for each dataset and metric, whose panels have one scale.
    With many methods a row is for each method and dataset, and metrics are lines.
    """
    rows = _of(curves, model, plan)
    rows = rows[rows["measure"].str.contains(":")]
    if rows.empty:
        return None
    parts = rows["measure"].str.split(":", expand=True)
    rows = rows.assign(metric=parts[0], place=parts[1], dataset=parts[2])
    places = [place for place in PLACES if (rows["place"] == place).any()]
    editors = list(dict.fromkeys(rows["editor"]))
    titles = {metric: _title(metric) for metric in METRICS if (rows["metric"] == metric).any()}
    few = len(editors) <= FEW
    across, lines = ("metric", "editor") if few else ("editor", "metric")
    panels = []
    for dataset in (name for name in DATASETS if (rows["dataset"] == name).any()):
        for one in titles if few else editors:
            here = rows[(rows["dataset"] == dataset) & (rows[across] == one)]
            for place in places if len(here) else ():
                drawn = _lines(here[here["place"] == place], lines)
                named = drawn if few else {titles[metric]: points for metric, points in drawn.items()}
                panels.append(Panel(f"{titles.get(one, one)}, {title_of(dataset)}, edits {place}", named))
    title = f"Cases among unrelated edits along {plan} — {printable(model)}"
    looks = look(editors if few else list(titles.values()))
    return draw(panels, looks, title, columns=len(places), by_row=True, counted="unrelated edits")


def _title(metric: str) -> str:
    known = find_metric(metric)
    return known.title if known else metric.replace("_", " ")


def _curves(
    rows: pd.DataFrame,
    shown: Sequence[str],
    words: Mapping[str, str],
    ended: Mapping[str, int],
    title: str,
    logarithmic: bool = False,
) -> Figure | None:
    if rows.empty:
        return None
    editors, present = (
        list(dict.fromkeys(rows["editor"])),
        [name for name in shown if (rows["measure"] == name).any()],
    )
    if len(editors) <= FEW:
        panels = [
            Panel(
                words[name],
                _lines(rows[rows["measure"] == name], "editor"),
                ended=ended,
                logarithmic=logarithmic,
            )
            for name in present
        ]
        return draw(panels, look(editors), title)
    panels = []
    for editor, part in rows.groupby("editor", sort=False):
        lines = {words[name]: points for name, points in _lines(part, "measure").items()}
        end = {name: ended[str(editor)] for name in lines if editor in ended}
        panels.append(Panel(str(editor), lines, ended=end, logarithmic=logarithmic))
    return draw(panels, look([words[name] for name in present]), title)


def _lines(rows: pd.DataFrame, by: str) -> dict[str, pd.DataFrame]:
    return {str(name): part for name, part in rows.groupby(by, sort=False)}


def _of(table: pd.DataFrame, model: str, plan: str) -> pd.DataFrame:
    """Return the rows of one model and plan over all orders."""
    return table[(table["model"] == model) & (table["plan"] == plan) & (table["order"] == ALL)]


def _ended(collapses: pd.DataFrame) -> dict[str, int]:
    ended = collapses.dropna(subset="ended_at").drop_duplicates("editor")
    return {str(row.editor): int(row.ended_at) for row in ended.itertuples()}
