"""Metrics by method: a bar with its interval and its control for every method."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aftershock.datasets.table import title_of
from aftershock.figures.style import DARK, GREY, Look, capital, heading, look, style, unit_of
from aftershock.labels import printable
from aftershock.metrics.catalogue import NATS, metric

PANELS = {
    "coverage": (
        ("single_exact", None, ""),
        ("single_neighbours_kept", None, ""),
        ("conflict_score_exp", "conflict_score_exp_before", "unedited model"),
        ("conflict_magnitude", "conflict_magnitude_control", "another case's edit"),
    ),
    "reverse": (
        ("conflict_score_exp", "conflict_score_exp_before", "unedited model"),
        ("conflict_score_imp", "conflict_score_imp_before", "unedited model"),
        ("conflict_magnitude", "conflict_magnitude_control", "another case's edit"),
    ),
    "composite": (
        ("conflict_score_exp", "conflict_score_exp_before", "unedited model"),
        ("conflict_score_imp", "conflict_score_imp_before", "unedited model"),
        ("conflict_magnitude", "conflict_magnitude_control", "another case's edit"),
        ("tied_fact_damage", "tied_fact_damage_same", "same subject's other facts"),
    ),
    **dict.fromkeys(
        ("round_easy", "round_hard"),
        (
            ("success", None, ""),
            ("distortion", "distortion_random", "random change"),
            ("ignore_rate", "ignore_rate_random", "random change"),
            ("failure_rate", "failure_rate_by_chance", "by chance"),
        ),
    ),
}
"""Metrics shown for each dataset, the control of each, and its description."""

LOWEST = -100.0
"""Lower end of the axis of a ratio without lower limit; values below it are printed."""


def bars(
    summary: pd.DataFrame,
    model: str,
    dataset: str,
    editors: Sequence[str],
    order: Sequence[str] = (),
    subset: str = "all",
) -> Figure:
    """A panel per metric with a bar, its interval and its control for every editor; several seeds are
    averaged.

    `order` names all methods of the run, whose looks stay the same; without it `editors` are all.
    """
    rows = summary[
        (summary["model"] == model) & (summary["dataset"] == dataset) & (summary["subset"] == subset)
    ]
    with style():
        panels = PANELS[dataset]
        figure = Figure(figsize=(2.35 * len(panels) + 0.9, 0.3 * len(editors) + 1.05), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (name, control, words) in zip(axes, panels, strict=True):
            _panel(axis, rows, name, control, words, editors, look(order or editors))
        heading(figure, f"{capital(title_of(dataset))} — {printable(model)}")
    return figure


def _panel(
    axis: Axes,
    rows: pd.DataFrame,
    name: str,
    control: str | None,
    words: str,
    editors: Sequence[str],
    looks: Mapping[str, Look],
) -> None:
    entry = metric(name)
    values = _percentages(rows, name, editors)
    against = _percentages(rows, control, editors)
    for place, editor in enumerate(editors):
        value, low, high = values.loc[editor]
        if np.isnan(value):
            axis.text(0, place, "  no value", va="center", fontsize=7.5, color="#777777")
            continue
        how = looks[editor]
        axis.barh(
            place, max(value, LOWEST), 0.66, color=how.colour, hatch=how.hatch, edgecolor="white", linewidth=0
        )
        ends = [max(low, LOWEST), max(high, LOWEST)]
        axis.plot(ends, [place] * 2, color="white", linewidth=3)  # visible on a dark bar too
        axis.plot(ends, [place] * 2, color="black", linewidth=1.3)
        if value < LOWEST:
            axis.text(LOWEST, place, f"◀ {value:.0f}", va="center", fontsize=7.5, color="white")
        if not np.isnan(reference := against.loc[editor, "value"]):
            axis.plot(
                max(reference, LOWEST), place, "D", markersize=4, color="white", markeredgecolor="black"
            )
    axis.set_yticks(range(len(editors)), [printable(e) for e in editors])
    axis.set_ylim(len(editors) - 0.5, -0.5)
    axis.set_title(f"{capital(entry.title)} {'↑' if entry.better == 'up' else '↓'}")
    if entry.scale != NATS:
        shown = [*values.to_numpy().ravel(), *against["value"]]
        lowest = np.nanmin([0.0, *shown])
        axis.set_xlim(max(LOWEST, 20 * np.floor(lowest / 20)) if lowest < -0.5 else 0, 102)
    axis.grid(axis="x")
    axis.axvline(0, color=GREY, linewidth=0.8)
    unit = unit_of(name)
    axis.set_xlabel(f"{unit}  ·  ◇ {words}" if words else unit, color=DARK)


def _percentages(rows: pd.DataFrame, name: str | None, editors: Sequence[str]) -> pd.DataFrame:
    """Value, low and high of a metric times 100, by editor."""
    chosen = rows[rows["metric"] == name]
    return 100 * chosen.groupby("editor")[["value", "low", "high"]].mean().reindex(editors)
