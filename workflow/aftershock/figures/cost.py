"""Cost of each method against its damage."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from aftershock.datasets.table import title_of
from aftershock.figures.style import APART, DARK, GREY, Look, capital, heading, look, style, unit_of
from aftershock.labels import printable
from aftershock.metrics.catalogue import metric
from aftershock.metrics.timings import seconds_per_case

Panel: TypeAlias = tuple[str, str, str, str]
HARM: tuple[Panel, ...] = (
    ("coverage", "single_neighbours_kept", "neighbours lost", "single_exact"),
    ("composite", "tied_fact_damage", "tied fact lost", "e2_exact"),
    ("round_easy", "distortion", "distortion", "any_exact"),
    ("round_hard", "distortion", "distortion", "any_exact"),
)
"""Dataset, metric of damage, its description, and the metric of success."""


def costs(
    summary: pd.DataFrame, runs: Sequence[Mapping[str, Any]], timings: Sequence[Mapping[str, Any]], kg: str
) -> pd.DataFrame:
    """A row per model, editor and dataset of HARM: seconds per case, harm with interval, and share written.

    Several seeds are averaged. Kept shares are turned into lost ones; a run without timings or value is left
    out.
    """
    means = summary[summary["subset"] == "all"].groupby(["model", "dataset", "editor", "metric"])
    means = means[["value", "low", "high"]].mean()
    rows = []
    for dataset, name, _, written in HARM:
        of_dataset = [run for run in runs if run["dataset"] == dataset]
        for model, editor in dict.fromkeys((run["model"], run["editor"]) for run in of_dataset):
            seeds = [run for run in of_dataset if (run["model"], run["editor"]) == (model, editor)]
            seconds = np.mean([seconds_per_case(timings, run, kg) for run in seeds])
            found = means.reindex([(model, dataset, editor, key) for key in (name, written)])
            value, low, high = found.iloc[0]
            if metric(name).better == "up":
                value, low, high = 1 - value, 1 - high, 1 - low
            rows.append((model, editor, dataset, seconds, value, low, high, found["value"].iloc[1]))
    columns = ["model", "editor", "dataset", "seconds", "value", "low", "high", "written"]
    return pd.DataFrame(rows, columns=columns).dropna(subset=["seconds", "value"])


def cost(rows: pd.DataFrame, model: str, order: Sequence[str]) -> Figure | None:
    """A panel per kind of harm: seconds per case to the right, damage upwards; `rows` as `costs` gives them.

    Many methods have a row each instead. `order` names all methods of the run, whose looks stay the same.
    None where `model` has no row.
    """
    rows = rows[rows["model"] == model]
    panels = [panel for panel in HARM if (rows["dataset"] == panel[0]).any()]
    if not panels:
        return None
    if rows["editor"].nunique() > APART:
        return _in_rows(rows, model, panels, look(order))
    span = _span(rows["seconds"])
    with style():
        figure = Figure(figsize=(2.7 * len(panels) + 0.3, 3.0), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (dataset, name, words, _) in zip(axes, panels, strict=True):
            part = rows[rows["dataset"] == dataset].sort_values("value")
            for row in part.itertuples():
                _point(axis, row, look(order)[row.editor])
            _finish(axis, part, span, name)
            _label(axis, part)
            axis.set_title(f"{capital(words)} ↓")
            axis.set_xlabel(f"seconds per case ({title_of(dataset)})", color=DARK)
        heading(figure, f"Cost against harm, best at the lower left — {printable(model)}")
    return figure


def _in_rows(rows: pd.DataFrame, model: str, panels: Sequence[Panel], looks: Mapping[str, Look]) -> Figure:
    """Return a row per method, the least harmful first: how much it writes, its seconds, and every harm."""
    first = rows[rows["dataset"] == panels[0][0]].set_index("editor")
    editors = list(first["value"].sort_values(kind="stable").index)
    editors += [editor for editor in looks if editor in set(rows["editor"]) - set(editors)]
    places = {editor: place for place, editor in enumerate(editors)}
    seconds = rows.groupby("editor")["seconds"].agg(lambda values: np.exp(np.log(values).mean()))
    with style():
        size = 1.9 * (len(panels) + 2) + 1.2, 0.21 * len(editors) + 1.2
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(panels) + 2, sharey=True)
        for editor, value in first["written"].items():
            axes[0].plot(100 * value, places[editor], looks[editor].marker, color=looks[editor].colour)
        axes[0].set_xlim(-3, 103)
        axes[0].set_title("Written ↑")
        axes[0].set_xlabel(f"% ({title_of(panels[0][0])})", color=DARK)
        for editor, value in seconds.items():
            axes[1].plot(value, places[editor], looks[editor].marker, color=looks[editor].colour)
        _in_seconds(axes[1])
        axes[1].set_xlim(_span(seconds))
        axes[1].set_title("Seconds per case ↓")
        axes[1].set_xlabel("mean over datasets", color=DARK)
        for axis, (dataset, name, words, _) in zip(axes[2:], panels, strict=True):
            _harms(axis, rows[rows["dataset"] == dataset], places, looks)
            axis.set_title(f"{capital(words)} ↓")
            axis.set_xlabel(f"{unit_of(name)} ({title_of(dataset)})", color=DARK)
        for axis in axes:
            axis.grid(axis="both")
            axis.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(editors)), [printable(editor) for editor in editors])
        axes[0].set_ylim(len(editors) - 0.5, -0.5)
        heading(figure, f"Cost and harm — {printable(model)}")
    return figure


def _harms(axis: Axes, rows: pd.DataFrame, places: Mapping[str, int], looks: Mapping[str, Look]) -> None:
    """Draw the harm of each method with its interval, filled where no other is both cheaper and milder."""
    for row in rows.itertuples():
        how, place = looks[row.editor], places[row.editor]
        beaten = ((rows["seconds"] < row.seconds) & (rows["value"] < row.value)).any()
        axis.plot([100 * row.low, 100 * row.high], [place] * 2, color=how.colour, linewidth=1.3)
        face = "white" if beaten else how.colour
        axis.plot(100 * row.value, place, how.marker, color=how.colour, markerfacecolor=face)
    axis.axvline(0, color=GREY, linewidth=0.8)


def _point(axis: Axes, row: Any, how: Look) -> None:
    value, low, high = (100 * x for x in (row.value, row.low, row.high))
    axis.plot([row.seconds] * 2, [low, high], color=how.colour, linewidth=1.3, zorder=2)
    axis.plot(
        row.seconds, value, how.marker, color=how.colour, markersize=7, markeredgecolor="black", zorder=3
    )


def _finish(axis: Axes, rows: pd.DataFrame, span: tuple[float, float], name: str) -> None:
    _in_seconds(axis)
    axis.set_xlim(span)
    top = 100 * max(rows["high"].max(), rows["value"].max())
    lowest = 100 * min(rows["low"].min(), 0.0)
    axis.set_ylim(lowest - 0.06 * (top - lowest), top + 0.12 * (top - lowest) + 1e-9)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.grid(axis="both", which="major")
    axis.set_ylabel(unit_of(name), color=DARK)


def _span(seconds: pd.Series) -> tuple[float, float]:
    """Return the ends of an axis of seconds, so far apart that two of its numbers lie between them."""
    return seconds.min() / 2.5, seconds.max() * 2.5


def _in_seconds(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


WIDTH, HEIGHT = 0.033, 0.085
"""Size of a letter and of a line of a label, in parts of a panel."""
SIDES = ((0.03, 0.02), (0.03, -0.1), (-0.03, 0.02), (-0.03, -0.1), (0.03, 0.1), (-0.03, 0.1), (0.03, -0.18))
"""Possible positions of a label beside its point; a negative first number puts it to the left."""


def _label(axis: Axes, rows: pd.DataFrame) -> None:
    """Write each method's name and success beside its point, where no other point or label stands."""
    to_panel = axis.transData + axis.transAxes.inverted()
    places, lows, highs = (
        to_panel.transform(np.column_stack([rows["seconds"], 100 * rows[figure]]))
        for figure in ("value", "low", "high")
    )
    lines = [(x, low, x, high) for (x, low), (_, high) in zip(lows, highs, strict=True)]
    taken = [(x - 0.025, y - 0.03, x + 0.025, y + 0.03) for x, y in places]
    for (x, y), row in zip(places, rows.itertuples(), strict=True):
        text = printable(row.editor, 16) + ("" if np.isnan(row.written) else f" {100 * row.written:.0f} %")
        boxes = [_box(x + right, y + up, WIDTH * len(text), right < 0) for right, up in SIDES]
        # Text over text cannot be read, text over a line can.
        hits = [
            1000 * (not _inside(box))
            + 100 * sum(_meet(box, other) for other in taken)
            + sum(_meet(box, line) for line in lines)
            for box in boxes
        ]
        side = hits.index(min(hits))
        taken.append(boxes[side])
        left, bottom, right, _ = boxes[side]
        to_left = SIDES[side][0] < 0
        axis.text(
            right if to_left else left,
            bottom + 0.02,
            text,
            ha="right" if to_left else "left",
            fontsize=7.5,
            transform=axis.transAxes,
        )


def _box(x: float, y: float, width: float, to_left: bool) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a label."""
    return (x - width, y, x, y + HEIGHT) if to_left else (x, y, x + width, y + HEIGHT)


def _inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= 1.02 and box[3] <= 1.02


def _meet(box: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
