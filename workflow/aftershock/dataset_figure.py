"""The figure on a dataset's page: its cases, and the candidates kept and dropped."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aftershock.datasets.datasheet import Built, easy_and_hard
from aftershock.datasets.round_edit import PROFILES
from aftershock.datasets.table import CONFLICT, SPLITS, title_of
from aftershock.figures.style import COLOURS, HATCHES, style
from aftershock.labels import printable

LISTED = 16  # rules that get a bar of their own
BINS = 24
EASY_HARD = (COLOURS[7], COLOURS[4])


def draw_dataset(built: Built, model: str, settings: Mapping[str, Any]) -> Figure:
    """Cases by rule and split and candidates by reason; of a round dataset also how many true objects its
    cases have and how similar the edited object is to the others, in the easy and in the hard test cases.
    """
    round_dataset = built.dataset not in CONFLICT
    rules = built.cases["rule"].nunique()
    height = max(2.4, 0.9 + 0.19 * max(min(rules, LISTED), 2 * built.counts["reason"].nunique()))
    with style():
        figure = Figure(figsize=(10.2, height + (2.5 if round_dataset else 0)), layout="constrained")
        if round_dataset:
            axes = figure.subplots(2, 2, height_ratios=[height, 2.3])
            sizes, similarities = axes[1]
            _spread(sizes, similarities, built, settings)
            axes = axes[0]
        else:
            axes = figure.subplots(1, 2)
        _cases(axes[0], built.cases)
        _candidates(axes[1], built.counts)
        name = title_of(built.dataset).capitalize()
        figure.suptitle(f"{name} — cases for {printable(model)}", x=0.01, ha="left", fontsize=10)
    return figure


def _cases(axis: Axes, cases: pd.DataFrame) -> None:
    """Cases of each rule, a stack per split; the rarest rules share a bar."""
    numbers = cases.groupby(["rule", "split"]).size().unstack(fill_value=0)
    numbers = numbers.reindex(columns=[s for s in SPLITS if s in numbers])
    order = numbers.sum(axis=1).sort_values(ascending=False, kind="stable").index
    shown = numbers.loc[order[:LISTED]]
    if len(order) > LISTED:
        rest = numbers.loc[order[LISTED:]].sum().rename(f"{len(order) - LISTED} more")
        shown = pd.concat([shown, rest.to_frame().T])
    strict = cases.groupby("rule")["strict"].mean()
    names = [f"{rule}  ({strict.get(rule, 1):.0%} strict)" for rule in shown.index]
    if cases["strict"].all():
        names = list(shown.index)
    _stacks(axis, shown, names)
    axis.set_title(f"Cases by rule: {len(cases)}")


def _candidates(axis: Axes, counts: pd.DataFrame) -> None:
    """Draw the kept and dropped candidates of each split."""
    numbers = counts.pivot_table(
        index="reason", columns="split", values="candidates", aggfunc="sum", fill_value=0
    )
    numbers = numbers.reindex(columns=[s for s in SPLITS if s in numbers])
    order = sorted(numbers.index, key=lambda reason: (reason != "kept", -numbers.loc[reason].sum()))
    _stacks(axis, numbers.loc[order], [fill(reason, 34) for reason in order])
    axis.set_title(f"Candidates: {int(numbers.to_numpy().sum())}")


def _stacks(axis: Axes, numbers: pd.DataFrame, names: Sequence[str]) -> None:
    """Horizontal bars, one colour and hatching per split, with the total at the end."""
    left = np.zeros(len(numbers))
    for split, colour, hatch in zip(SPLITS, COLOURS, HATCHES, strict=False):
        if split in numbers:
            values = numbers[split].to_numpy(dtype=float)
            axis.barh(
                range(len(numbers)),
                values,
                0.7,
                left=left,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                label=split,
            )
            left += values
    for place, total in enumerate(left):
        axis.text(total, place, f" {total:.0f}", va="center", fontsize=7.5, color="#555555")
    axis.set_yticks(range(len(numbers)), names, fontsize=7.5)
    axis.set_ylim(len(numbers) - 0.4, -0.6)
    axis.set_xlim(0, max(left.max(initial=1) * 1.12, 1))
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.grid(axis="x")
    if len(numbers):
        room = {"handlelength": 1.2, "columnspacing": 1.0, "handletextpad": 0.4, "borderaxespad": 0.0}
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=7.5, **room)


def _spread(sizes: Axes, similarities: Axes, built: Built, settings: Mapping[str, Any]) -> None:
    """Easy and hard test cases side by side: number of true objects, and similarity of the edited one."""
    chosen = easy_and_hard(built, settings)
    largest = max([10, *(int(rows["n_objects"].max()) for rows in chosen.values() if len(rows))])
    places = np.arange(2, largest + 1)
    for i, (name, rows) in enumerate(chosen.items()):
        look = {"color": EASY_HARD[i], "hatch": HATCHES[i], "edgecolor": "white", "linewidth": 0}
        label = f"{name.removeprefix('round_')}: {len(rows)}"
        share = rows["n_objects"].value_counts(normalize=True).reindex(places, fill_value=0)
        sizes.bar(places + (i - 0.5) * 0.38, share, 0.38, label=label, **look)
    paper = pd.Series(PROFILES["paper"]) / sum(PROFILES["paper"].values())
    sizes.plot(
        paper.index, paper, "D", markersize=4, color="white", markeredgecolor="black", label="released files"
    )
    sizes.set_xticks(places)
    sizes.set_xlabel("true objects of a test case", color="#555555")
    sizes.set_ylabel("share", color="#555555")
    sizes.set_title("Numbers of true objects")
    sizes.grid(axis="y")
    sizes.legend(frameon=False, fontsize=7.5)
    _similarities(similarities, chosen)


def _similarities(axis: Axes, chosen: Mapping[str, pd.DataFrame]) -> None:
    values = [rows["similarity"] for rows in chosen.values()]
    every = pd.concat(values)
    low, high = (every.min(), every.max()) if len(every) else (0.0, 1.0)
    bins = np.linspace(low, max(high, low + 1e-9), BINS + 1)
    for i, (name, mine) in enumerate(zip(chosen, values, strict=True)):
        axis.hist(
            mine,
            bins,
            histtype="stepfilled",
            alpha=0.6,
            facecolor=EASY_HARD[i],
            hatch=HATCHES[i],
            edgecolor=EASY_HARD[i],
            label=name.removeprefix("round_"),
        )
        if len(mine):
            axis.axvline(mine.median(), color=EASY_HARD[i], linewidth=1.5, linestyle=("-", "--")[i])
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_title("Edited object: similarity to the other true ones")
    axis.set_xlabel("mean cosine of labels; lines: medians", color="#555555")
    axis.set_ylabel("test cases", color="#555555")
    axis.grid(axis="y")
    axis.legend(frameon=False, fontsize=7.5)
