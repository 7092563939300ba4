"""The layers that hold a model's facts: table, figure and sentences of `find_layers`."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aftershock.figures import COLOURS, style
from aftershock.labels import printable
from aftershock.metrics.intervals import LEVEL, estimate
from aftershock.metrics.scales import DIFFERENCE
from aftershock.seeds import generator
from aftershock.tables.models import LAYERS

TRACING = "tracing"
WORDS = {"hidden": "output of a layer", "mlp": "output of its MLP"}


def tracing_rows(
    effects: Mapping[str, np.ndarray],
    windows: Sequence[Sequence[int]],
    clusters: pd.Series,
    seed: int,
    level: float = LEVEL,
) -> pd.DataFrame:
    """LAYERS rows of indirect effects by measure, (facts, layers) each: means with intervals by cluster.

    An effect that is the same for every fact, as that of a last layer which nothing reads, has no interval.
    """
    rows = []
    for measure, values in effects.items():
        frame = pd.DataFrame(values)
        scales = dict.fromkeys(frame.columns, DIFFERENCE)
        found = estimate(frame, clusters, scales, generator(seed, "find_layers", measure), level=level)
        for layer, e in found.items():
            layers = list(windows[layer]) if measure == "mlp" else [layer]
            low, high = (e.low, e.high) if frame[layer].nunique() > 1 else (np.nan, np.nan)
            rows.append((TRACING, measure, layer, json.dumps(layers), e.value, low, high, e.n))
    return pd.DataFrame(rows, columns=list(LAYERS.columns))


def findings(table: pd.DataFrame) -> list[str]:
    """Sentences about LAYERS rows, one per analysis: the layers with the largest value."""
    lines = []
    for (analysis, measure), rows in table.groupby(["analysis", "measure"], sort=False):
        best = rows.loc[rows["value"].idxmax()]
        if analysis == TRACING:
            lines.append(
                f"restoring the {WORDS[measure]} at the subject gives most probability back at layers "
                f"{best.layers}: {best.value:.3f} ({best.low:.3f} to {best.high:.3f}, {best.n} facts)"
            )
        elif measure == "objective":
            lines.append(f"{analysis} edits best at layers: {best.layers} (objective {best.value:.3f})")
    return lines


def draw(table: pd.DataFrame, model: str) -> Figure:
    """A panel with the indirect effects, and one for each editor with its metrics, over layers."""
    editors = [name for name in table["analysis"].unique() if name != TRACING]
    with style():
        figure = Figure(figsize=(3.1 * (1 + len(editors)), 2.7), layout="constrained")
        first, *others = figure.subplots(1, 1 + len(editors), squeeze=False)[0]
        _tracing(first, table[table["analysis"] == TRACING])
        for axis, editor in zip(others, editors, strict=True):
            _editor(axis, table[table["analysis"] == editor], printable(editor))
        figure.suptitle(f"Layers that hold facts — {printable(model)}", x=0.01, ha="left", fontsize=10)
    return figure


def _tracing(axis: Axes, rows: pd.DataFrame) -> None:
    for colour, marker, (measure, words) in zip(COLOURS, "os", WORDS.items(), strict=False):
        mine = rows[rows["measure"] == measure].sort_values("layer")
        axis.fill_between(mine["layer"], 100 * mine["low"], 100 * mine["high"], color=colour, alpha=0.2, lw=0)
        axis.plot(mine["layer"], 100 * mine["value"], marker=marker, ms=4, color=colour, label=words)
    axis.axhline(0, color="#888888", linewidth=0.8)
    axis.set_title("Restored at the subject")
    axis.set_ylabel("probability given back, %", color="#555555")
    _finish(axis, rows)


def _editor(axis: Axes, rows: pd.DataFrame, title: str) -> None:
    for colour, marker, (measure, mine) in zip(
        COLOURS[2:], "^vDo", rows.groupby("measure", sort=False), strict=False
    ):
        mine = mine.sort_values("layer")
        width = 2.2 if measure == "objective" else 1.2
        line = {"color": colour, "linewidth": width, "linestyle": "--" if measure == "objective" else "-"}
        axis.plot(mine["layer"], 100 * mine["value"], marker=marker, ms=4, label=measure, **line)
    axis.set_ylim(-3, 103)
    axis.set_title(f"Edited with {title}")
    axis.set_ylabel("% of dev answers", color="#555555")
    _finish(axis, rows)


def _finish(axis: Axes, rows: pd.DataFrame) -> None:
    layers = sorted(rows["layer"].unique())
    if len(layers) == layers[-1] - layers[0] + 1:
        axis.set_xticks(layers[:: 1 + len(layers) // 13])
    else:  # some were left out, and those that are near each other have no room for their numbers
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("layer", color="#555555")
    axis.tick_params(axis="y", left=True)
    axis.grid(axis="y")
    axis.legend(frameon=False, fontsize=7, loc="best")
