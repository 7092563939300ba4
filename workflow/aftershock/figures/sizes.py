"""Effect of the number of true objects: distortion and ignore rate of round cases by that number."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aftershock.datasets.table import title_of
from aftershock.figures.style import APART, DARK, GREY, capital, heading, interval_line, look, style, unit_of
from aftershock.labels import printable
from aftershock.metrics.catalogue import metric
from aftershock.metrics.intervals import LEVEL, estimate
from aftershock.seeds import generator

SHOWN = ("distortion", "distortion_released", "ignore_rate")
ENOUGH = 5
"""The largest numbers of objects are merged until at least this many cases have them."""


def groups(sizes: pd.Series, enough: int = ENOUGH) -> dict[str, np.ndarray]:
    """Masks of cases by number of objects: "2", "3", …, the rarest large numbers merged as one "7+"."""
    counts = sizes.value_counts().sort_index()
    last = len(counts) - 1
    while last > 0 and counts.iloc[last:].sum() < enough:
        last -= 1
    found = {str(size): (sizes == size).to_numpy() for size in counts.index[:last]}
    if len(counts):
        least = counts.index[last]
        name = str(least) if last == len(counts) - 1 else f"{least}+"
        found[name] = (sizes >= least).to_numpy()
    return found


def by_size(scores: pd.DataFrame, cases: pd.DataFrame, seed: int, level: float = LEVEL) -> pd.DataFrame:
    """Value, low, high and n of each of SHOWN by number of true objects; SCORES and CASES of one run."""
    values = scores[scores["metric"].isin(SHOWN)].pivot(index="case_id", columns="metric", values="value")
    about = cases.set_index("case_id").loc[values.index]
    rng = generator(seed, "by_size")
    rows = []
    for name, mask in groups(about["n_objects"]).items():
        scales = {column: metric(column).scale for column in values}
        found = estimate(values[mask], about.loc[mask, "cluster"], scales, rng, level=level)
        rows += [(name, column, e.value, e.low, e.high, e.n) for column, e in found.items()]
    return pd.DataFrame(rows, columns=["objects", "metric", "value", "low", "high", "n"])


def sizes(runs: Mapping[str, pd.DataFrame], model: str, dataset: str, order: Sequence[str]) -> Figure | None:
    """A line per method over the number of true objects, a panel per metric; `runs` has `by_size` by editor.

    Many methods are rows of numbers instead. `order` names all methods of the run, whose looks stay the same.
    None where no run has a case.
    """
    shown = [editor for editor in order if editor in runs and len(runs[editor])]
    if not shown:
        return None
    names = list(dict.fromkeys(name for editor in shown for name in runs[editor]["objects"]))
    counts = pd.concat([runs[editor] for editor in shown]).groupby("objects")["n"].max()
    with style():
        title = f"{capital(title_of(dataset))}: by number of true objects — {printable(model)}"
        if len(shown) > APART:
            return _numbers({editor: runs[editor] for editor in shown}, names, counts, title)
        figure = Figure(figsize=(2.5 * len(SHOWN) + 1.4, 2.6), layout="constrained")
        for axis, name in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
            for place, editor in enumerate(shown):
                rows = runs[editor]
                rows = rows[rows["metric"] == name].set_index("objects").reindex(names)
                apart = 0.5 * (place / max(len(shown) - 1, 1) - 0.5)
                points = 100 * rows[["value", "low", "high"]].to_numpy()
                interval_line(
                    axis, np.arange(len(names)) + apart, points, look(order)[editor], printable(editor)
                )
            _finish(axis, name, names, counts)
            _finish_lines(axis, name)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
        heading(figure, title)
    return figure


def _numbers(runs: Mapping[str, pd.DataFrame], names: Sequence[str], counts: pd.Series, title: str) -> Figure:
    """Return the means as numbers, a row per method, the larger the darker."""
    figure = Figure(figsize=(2.2 * len(SHOWN) + 1.6, 0.2 * len(runs) + 1.2), layout="constrained")
    axes = figure.subplots(1, len(SHOWN), sharey=True)
    for axis, name in zip(axes, SHOWN, strict=True):
        rows = [of[of["metric"] == name].set_index("objects")["value"].reindex(names) for of in runs.values()]
        values = 100 * np.array(rows, dtype=float)
        top = np.nanmax(values, initial=0.0) or 1.0
        axis.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
        for place, value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if value > 0.65 * top else "black"
                axis.text(
                    *place[::-1],
                    f"{value:.0f}" if top >= 30 else f"{value:.1f}",
                    color=colour,
                    ha="center",
                    va="center",
                    fontsize=7.5,
                )
        _finish(axis, name, names, counts)
        axis.set_xlabel(f"true objects  ·  {unit_of(name)}", color=DARK)
        axis.set_ylim(len(runs) - 0.5, -0.5)
        axis.tick_params(length=0)
    axes[0].set_yticks(range(len(runs)), [printable(editor) for editor in runs])
    heading(figure, title)
    return figure


def _finish(axis: Axes, name: str, names: Sequence[str], counts: pd.Series) -> None:
    entry = metric(name)
    axis.set_title(f"{capital(entry.title)} {'↑' if entry.better == 'up' else '↓'}")
    axis.set_xticks(range(len(names)), [f"{size}\nn = {counts[size]}" for size in names], fontsize=7.5)
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_xlabel("true objects", color=DARK)


def _finish_lines(axis: Axes, name: str) -> None:
    axis.set_ylim(bottom=0)
    axis.grid(axis="y")
    axis.set_ylabel(unit_of(name), color=DARK)
    if name == "ignore_rate":
        axis.set_ylim(0, 102)
        axis.axhline(50, color=GREY, linewidth=0.9, linestyle="--")
        axis.text(-0.45, 48, "by chance", va="top", fontsize=7.5, color=DARK)
