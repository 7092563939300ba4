"""The health of edits by method: perplexity of a text that no edit is about, and the size of changes."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from aftershock.datasets.table import SECOND, title_of
from aftershock.figures.style import DARK, GREY, Look, heading, look, style
from aftershock.labels import printable

PANELS = (
    ("perplexity", "Perplexity ratio ↓", "times that of the unedited model"),
    ("relative", "Size of the change", "norm of the change by that of the weight"),
)
SPREAD = 0.6
"""Share of a method's row over which its datasets are spread."""


def health(summary: pd.DataFrame, model: str, order: Sequence[str]) -> Figure | None:
    """Return a panel per measure with a line per method: median and worst case of each dataset.

    `summary` has HEALTH_SUMMARY; several seeds are averaged. None where `model` has no measured value.
    """
    rows = summary[(summary["model"] == model) & (summary["state"] == SECOND)]
    columns = [f"{name}_{which}" for name, *_ in PANELS for which in ("median", "worst")]
    means = rows.groupby(["editor", "dataset"], sort=False)[columns].mean()
    panels = [panel for panel in PANELS if means[f"{panel[0]}_median"].notna().any()]
    editors = [editor for editor in order if editor in set(rows["editor"])]
    if not panels or not editors:
        return None
    with style():
        figure = Figure(figsize=(3.4 * len(panels) + 0.9, 0.42 * len(editors) + 1.3), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (name, title, unit) in zip(axes, panels, strict=True):
            _panel(axis, means, name, editors, look(order))
            axis.set_title(title)
            axis.set_xlabel(unit, color=DARK)
        if panels[0][0] == "perplexity":
            axes[0].axvline(1, color=GREY, linewidth=0.8)
            axes[0].axvline(rows["collapse_threshold"].iloc[0], color=DARK, linewidth=0.9, linestyle="--")
        axes[0].set_yticks(range(len(editors)), [printable(editor) for editor in editors])
        axes[0].set_ylim(len(editors) - 0.5, -0.5)
        datasets = "; ".join(title_of(name) for name in dict.fromkeys(rows["dataset"]))
        heading(figure, f"Health of edits (from top to bottom: {datasets}) — {printable(model)}")
    return figure


def _panel(
    axis: Axes, means: pd.DataFrame, name: str, editors: Sequence[str], looks: dict[str, Look]
) -> None:
    datasets = list(dict.fromkeys(means.index.get_level_values("dataset")))
    step = SPREAD / max(1, len(datasets))
    for place, editor in enumerate(editors):
        how = looks[editor]
        for number, dataset in enumerate(datasets):
            if (editor, dataset) not in means.index:
                continue
            middle, worst = means.loc[(editor, dataset), [f"{name}_median", f"{name}_worst"]]
            if pd.isna(middle) or not middle > 0:
                continue
            y = place - SPREAD / 2 + (number + 0.5) * step
            axis.plot([middle, worst], [y, y], color=how.colour, linewidth=1.0, zorder=1)
            axis.plot(worst, y, how.marker, markersize=4, markerfacecolor="white", markeredgecolor=how.colour)
            axis.plot(middle, y, how.marker, markersize=4.5, color=how.colour)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axis.grid(axis="x")
