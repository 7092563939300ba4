"""Panels over the number of edits, with one line for each method or task. Checkpoints are evenly spaced."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from aftershock.figures.style import DARK, GREY, Look, heading, interval_line, style
from aftershock.labels import printable

FEW = 6
"""Methods up to which each is a line of every panel."""

TITLE = 30
"""Characters of a line of a panel's title."""

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


def draw(
    panels: Sequence[Panel],
    looks: Mapping[str, Look],
    title: str,
    lowest: float | None = None,
    highest: float | None = None,
    columns: int | None = None,
    by_row: bool = False,
    counted: str = "edits made",
) -> Figure:
    """Return a grid of panels that share their checkpoints, with one legend below.

    by_row: panels of one row have the same scale. counted: what checkpoints are numbers of.
    """
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
        for place in range(0, len(panels) if by_row else 0, columns):
            _scale_alike(axes[place : place + columns])
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis in axes[max(0, len(panels) - columns) : len(panels)]:
            axis.set_xlabel(counted, color=DARK)
        width = max(1, int(figure.get_figwidth() // 2.1))
        figure.legend(
            list(handles.values()), [printable(name, 30) for name in handles], loc="outside lower left",
            ncols=width, frameon=False, fontsize=7.5,
        )  # fmt: skip
        heading(figure, title)
    return figure


def _scale_alike(axes: Sequence[Axes]) -> None:
    low, high = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_ylim(min(low), max(high))


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
    axis.set_title("\n".join(textwrap.wrap(printable(panel.title, 60), TITLE)))
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
