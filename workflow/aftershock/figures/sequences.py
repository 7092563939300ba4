"""Curves over the number of edits: abilities, retention of edits, and the health of the model.

Few methods are lines in a panel for each task or measure; many are a panel each, with a line for each task or
measure, as more lines in one panel cannot be distinguished. Checkpoints are evenly spaced, whatever lies
between.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from aftershock.datasets.table import DATASETS, PLACES, title_of
from aftershock.figure_names import figure_name
from aftershock.figures.shared import Named
from aftershock.figures.style import DARK, GREY, Look, heading, interval_line, look, style
from aftershock.labels import printable
from aftershock.metrics.abilities.among import METRICS
from aftershock.metrics.abilities.curves import HEALTH, MEASURES
from aftershock.metrics.abilities.settings import ALL, TaskInfo
from aftershock.metrics.catalogue import find_metric

FEW = 6
"""Methods up to which each is a line of every panel."""

EDITS_SHOWN = ("just_edited", "latest", "survival", "paraphrases", "neighbours_kept")
HEALTH_SHOWN = ("perplexity", "relative_norm", "condition")
FIGURES = ["value", "low", "high"]


@dataclass(frozen=True)
class Panel:
    """One panel: a title, lines by name (points with checkpoint, value, low, high), and reported points."""

    title: str
    lines: Mapping[str, pd.DataFrame]
    levels: Mapping[str, float] = field(default_factory=dict)
    """Horizontal lines by label."""
    reported: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Reported points of a line, with checkpoint and value."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """The edits after which a line's sequence ended early."""
    note: str = ""
    """Reason why the panel is greyed."""
    logarithmic: bool = False


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
            "unrelated": partial(unrelated_curves, curves, lost, model, plan),
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
        return _draw(panels, look(editors), f"Abilities along {plan} — {printable(model)}")
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
    return _draw(panels, look(list(names.values())), title, lowest=-0.25, highest=1.3)


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


def unrelated_curves(curves: pd.DataFrame, collapses: pd.DataFrame, model: str, plan: str) -> Figure | None:
    """Return metrics of cases with unrelated edits around them over the number of those, from CURVES."""
    rows = _of(curves, model, plan)
    rows = rows[rows["measure"].str.contains(":")]
    parts = {name: name.split(":") for name in dict.fromkeys(rows["measure"])}
    shown = sorted(parts, key=lambda name: _place_among(*parts[name]))
    names = {
        name: f"{_title(metric)}, {title_of(dataset)}, edits {place}"
        for name, (metric, place, dataset) in parts.items()
    }
    title = f"Cases among unrelated edits along {plan} — {printable(model)}"
    columns = len({place for _, place, _ in parts.values()})
    return _curves(rows, shown, names, {}, title, columns=columns)


def _place_among(metric: str, place: str, dataset: str) -> tuple[int, int, int]:
    """Return the place of a measure's panel: a row for each dataset and metric, a column for each place."""
    return list(DATASETS).index(dataset), METRICS.index(metric), PLACES.index(place)


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
    columns: int | None = None,
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
        return _draw(panels, look(editors), title, columns=columns)
    panels = []
    for editor, part in rows.groupby("editor", sort=False):
        lines = {words[name]: points for name, points in _lines(part, "measure").items()}
        end = {name: ended[str(editor)] for name in lines if editor in ended}
        panels.append(Panel(str(editor), lines, ended=end, logarithmic=logarithmic))
    return _draw(panels, look([words[name] for name in present]), title)


def _lines(rows: pd.DataFrame, by: str) -> dict[str, pd.DataFrame]:
    return {str(name): part for name, part in rows.groupby(by, sort=False)}


def _of(table: pd.DataFrame, model: str, plan: str) -> pd.DataFrame:
    """Return the rows of one model and plan over all orders."""
    return table[(table["model"] == model) & (table["plan"] == plan) & (table["order"] == ALL)]


def _ended(collapses: pd.DataFrame) -> dict[str, int]:
    ended = collapses.dropna(subset="ended_at").drop_duplicates("editor")
    return {str(row.editor): int(row.ended_at) for row in ended.itertuples()}


# --- drawing ----------------------------------------------------------------------------------------------


def _draw(
    panels: Sequence[Panel],
    looks: Mapping[str, Look],
    title: str,
    lowest: float | None = None,
    highest: float | None = None,
    columns: int | None = None,
) -> Figure:
    """Return a grid of panels that share their checkpoints, with one legend below."""
    checkpoints = sorted(
        {int(c) for panel in panels for rows in panel.lines.values() for c in rows["checkpoint"]}
    )
    columns = columns or {4: 2}.get(len(panels), min(len(panels), 3 if len(panels) <= FEW else 5))
    lines = -(-len(panels) // columns)
    with style():
        figure = Figure(figsize=(max(2.6 * columns + 0.5, 4.4), 2.15 * lines + 0.75), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        handles: dict[str, object] = {}
        for axis, panel in zip(axes, panels, strict=False):
            _panel(axis, panel, looks, checkpoints)
            if lowest is not None:
                axis.set_ylim(lowest, highest)
            found = zip(*axis.get_legend_handles_labels(), strict=True)
            handles |= {label: handle for handle, label in found if label not in handles}
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis in axes[max(0, len(panels) - columns) : len(panels)]:
            axis.set_xlabel("edits made", color=DARK)
        width = max(1, int(figure.get_figwidth() // 2.1))
        figure.legend(
            list(handles.values()), [printable(name, 30) for name in handles], loc="outside lower left",
            ncols=width, frameon=False, fontsize=7.5,
        )  # fmt: skip
        heading(figure, title)
    return figure


def _panel(axis: Axes, panel: Panel, looks: Mapping[str, Look], checkpoints: Sequence[int]) -> None:
    place = {checkpoint: x for x, checkpoint in enumerate(checkpoints)}
    if panel.logarithmic:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    for name, value in panel.levels.items():
        how = (0, (1, 2)) if name == "by accident" else (0, (6, 2))
        axis.axhline(value, color=GREY, linewidth=0.9, linestyle=how, label=name, zorder=1)
    number = len(panel.lines)
    for order, (name, rows) in enumerate(panel.lines.items()):
        rows = rows.sort_values("checkpoint")
        x = np.array([place[int(c)] for c in rows["checkpoint"]], float)
        apart = 0.24 * (order - (number - 1) / 2) / max(1, number)
        points = rows[FIGURES].to_numpy(float, copy=True)
        points[:, 1:] = np.where(np.isnan(points[:, 1:]), points[:, :1], points[:, 1:])
        grey = {"color": GREY, "markeredgecolor": GREY} if panel.note else {}
        interval_line(axis, x + apart, points, looks[name], name, zorder=3, **grey)
        filled = np.isfinite(points[:, 0])
        if name in panel.ended and filled.any():
            last = np.flatnonzero(filled)[-1]
            axis.plot(
                x[last] + apart,
                points[last, 0],
                "x",
                color="black",
                markersize=7,
                zorder=4,
                label="sequence ended",
            )
    for name, rows in panel.reported.items():
        known = rows[rows["checkpoint"].isin(place)].sort_values("checkpoint")
        axis.plot(
            [place[int(c)] for c in known["checkpoint"]],
            known["value"],
            ":",
            marker="D",
            markerfacecolor="none",
            markersize=4,
            linewidth=1,
            color=looks[name].colour,
            label=f"{name}, reported",
            zorder=2,
        )
    axis.set_title("\n".join(textwrap.wrap(printable(panel.title, 60), 34)))
    axis.set_xticks(range(len(checkpoints)), [_short(c) for c in checkpoints], fontsize=7)
    axis.set_xlim(-0.4, len(checkpoints) - 0.6)
    axis.grid(axis="y")
    _limits(axis, panel.logarithmic)
    if panel.note:
        axis.set_facecolor("#f2f2f2")
        axis.text(
            0.5, 0.97, panel.note, transform=axis.transAxes, ha="center", va="top", fontsize=6.5, color=DARK
        )


def _limits(axis: Axes, logarithmic: bool) -> None:
    """Start axes of shares at 0, and widen a logarithmic axis around a nearly flat line."""
    low, high = axis.dataLim.y0, axis.dataLim.y1
    if logarithmic:
        if 0 < high < 3 * low:
            axis.set_ylim(low / 3, high * 3)
    elif low >= 0 and high > 0:
        axis.set_ylim(-0.05 * high, 1.05 * high)


def _short(checkpoint: int) -> str:
    return f"{checkpoint / 1000:g}k" if checkpoint >= 1000 else str(checkpoint)
