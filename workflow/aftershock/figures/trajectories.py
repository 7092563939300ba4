"""Probabilities of old and new facts from state to state: a panel per method, a line per fact."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from aftershock.datasets.table import title_of
from aftershock.figures.style import (
    COLOURS,
    DARK,
    IN_A_ROW,
    Look,
    capital,
    heading,
    interval_line,
    panel_grid,
    style,
)
from aftershock.labels import printable

STATES = (("_before", "unedited"), ("_after_first", "first\nedit"), ("", "both\nedits"))
"""Endings of a probability's name, and the state in which it was taken."""

OLD = Look(COLOURS[5], "", "s", (0, (5, 1.5)))
NEW = Look(COLOURS[0], "", "o", "-")
IMPLIED = Look(COLOURS[4], "", "^", (0, (1.2, 1.2)))
OTHER = Look(COLOURS[3], "", "D", (0, (5, 1.2, 1.2, 1.2)))
CONFLICT = (
    ("probability_old", "written by the first edit", OLD),
    ("probability_new_exp", "written by the second edit", NEW),
    ("probability_new_imp", "follows from the second edit", IMPLIED),
    ("probability_tied", "tied fact, which neither edits", OTHER),
)
ROUND = (
    ("probability_target", "stand-in, written by the first edit", OLD),
    ("probability_original", "edited away and back", NEW),
    ("probability_others", "other true objects", OTHER),
)
FACTS = {
    "coverage": (*CONFLICT[:2],),
    "reverse": CONFLICT[:3],
    "composite": CONFLICT,
    "round_easy": ROUND,
    "round_hard": ROUND,
}
"""The facts of each dataset; in coverage the implied fact is the one that the second edit writes."""


def trajectories(summary: pd.DataFrame, model: str, dataset: str, editors: Sequence[str]) -> Figure:
    """Mean probability of each fact in three states with its interval; several seeds are averaged.

    `summary` has SUMMARY rows. A method without a value keeps an empty panel.
    """
    rows = summary[
        (summary["model"] == model) & (summary["dataset"] == dataset) & (summary["subset"] == "all")
    ]
    means = rows.groupby(["editor", "metric"])[["value", "low", "high"]].mean()
    with style():
        width = max(1.5 * min(len(editors), IN_A_ROW) + 0.9, 4.2)
        rows_of_panels = -(-len(editors) // IN_A_ROW)
        figure = Figure(figsize=(width, 2.0 * rows_of_panels + 0.75), layout="constrained")
        axes = panel_grid(figure, len(editors), sharey=True)
        handles: dict[str, Any] = {}
        for axis, editor in zip(axes, editors, strict=True):
            for place, (name, words, how) in enumerate(FACTS[dataset]):
                keys = [(editor, name + ending) for ending, _ in STATES]
                points = means.reindex(keys).to_numpy()
                apart = 0.07 * (place - (len(FACTS[dataset]) - 1) / 2)
                interval_line(axis, np.arange(len(STATES)) + apart, points, how, words)
            handles |= {words: line for line, words in zip(*axis.get_legend_handles_labels(), strict=True)}
            if not axis.has_data():
                axis.text(1, 0.5, "no value", ha="center", fontsize=7.5, color=DARK)
            axis.set_title(printable(editor, 20))
            axis.set_xticks(range(len(STATES)), [words for _, words in STATES], fontsize=7.5)
            axis.set_xlim(-0.35, len(STATES) - 0.65)
            axis.set_ylim(0, 1.02)
            axis.grid(axis="y")
        for axis in axes[::IN_A_ROW]:
            axis.set_ylabel("probability", color=DARK)
        if handles:
            # Narrow figures wrap their legend rather than cutting it off.
            columns = min(len(handles), max(1, int(width // 2.2)), 4 if width > 7.4 else 2)
            figure.legend(
                handles.values(), handles.keys(), loc="outside lower left", ncols=columns, frameon=False
            )
        heading(figure, f"{capital(title_of(dataset))}: old and new facts — {printable(model)}")
    return figure
