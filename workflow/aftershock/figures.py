"""Figures of a run: metrics by method with intervals, and what happened to each object of sampled cases.

One style for all: methods keep their colour and hatching in every figure, chosen to be told apart in grey and
by the colour-blind; labels are data and are never read as mathematical markup.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from aftershock.metrics.catalogue import NATS, metric
from aftershock.seeds import generator
from aftershock.words import DATASETS

# Okabe and Ito's colours, ordered so that neighbours differ in lightness too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
# Lines only: a hatching of dots makes an SVG of a quarter of a megabyte.
HATCHES = ("", "////", "||||", "\\\\\\\\", "xxxx", "----", "++++", "//")
STATES = {
    "0": ("unedited", "#d9d9d9", ""),
    "1": ("after the first edit", "#ffffff", "//////"),
    "2": ("after both", "", ""),
}
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "xtick.color": "#555555",
    "ytick.left": False,
    "grid.color": "#e5e5e5",
    "hatch.linewidth": 0.6,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "aftershock",
    "pdf.fonttype": 42,
    "figure.dpi": 110,
}
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
"""Metrics shown for each dataset, what each is compared with, and that in words."""

LOWEST = -100.0
"""A ratio without lower limit is drawn to here; what lies below is written."""


@contextmanager
def style():
    """Matplotlib with the settings that all figures share."""
    with matplotlib.rc_context(STYLE):
        yield


def look(editors: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and hatching of each editor, by its place in the run."""
    return {
        editor: (COLOURS[i % len(COLOURS)], HATCHES[i % len(HATCHES)])
        for i, editor in enumerate(dict.fromkeys(editors))
    }


def printable(label: str, longest: int = 34) -> str:
    """`label` on one line, without control characters and those that turn the direction of text."""
    clean = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") else c
        for c in label
    )
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def figure_name(model: str, dataset: str, kind: str) -> str:
    """File name, without ending, of the figure `kind` (metrics or objects) of a dataset."""
    return f"{model.replace('/', '.')}.{dataset}.{kind}"


def draw_all(
    folder: Path,
    summary: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    probabilities: Sequence[pd.DataFrame | None],
    labels: Mapping[str, str],
    examples: int,
    seed: int,
) -> None:
    """Write every figure of a run to `folder`.

    `probabilities` has, for each of `runs`, PROBABILITIES of a round dataset or None; up to `examples` cases
    of each such dataset are drawn object by object, for the lowest seed.
    """
    first_seed = min((run["seed"] for run in runs), default=0)
    tables: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    editors: dict[tuple[str, str], list[str]] = {}
    for run, table in zip(runs, probabilities, strict=True):
        key = run["model"], run["dataset"]
        editors.setdefault(key, []).append(run["editor"])
        if table is not None and run["seed"] == first_seed and len(table):
            tables.setdefault(key, {})[run["editor"]] = table
    for (model, dataset), labelled in editors.items():
        if ((summary["model"] == model) & (summary["dataset"] == dataset) & (summary["n"] > 0)).any():
            shown = bars(summary, model, dataset, list(dict.fromkeys(labelled)))
            save(shown, folder, figure_name(model, dataset, "metrics"))
    for (model, dataset), by_editor in tables.items():
        complete = {e: t for e, t in by_editor.items() if (t["state"] == "2").any()}
        if cases := sample_cases(complete, examples, seed):
            save(objects(complete, cases, labels), folder, figure_name(model, dataset, "objects"))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `figure` as SVG, PDF and PNG, equal bytes for equal figures."""
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    with style():
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine("none")
        for kind, metadata in dates.items():
            figure.savefig(folder / f"{name}.{kind}", metadata=metadata, bbox_inches="tight", pad_inches=0.06)


# --- metrics by method ------------------------------------------------------------------------------------
def bars(
    summary: pd.DataFrame, model: str, dataset: str, editors: Sequence[str], subset: str = "all"
) -> Figure:
    """A panel per metric with a bar, its interval and its control for every editor; several seeds are
    averaged.
    """
    rows = summary[
        (summary["model"] == model) & (summary["dataset"] == dataset) & (summary["subset"] == subset)
    ]
    with style():
        panels = PANELS[dataset]
        figure = Figure(figsize=(2.35 * len(panels) + 0.9, 0.3 * len(editors) + 1.05), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (name, control, words) in zip(axes, panels, strict=True):
            _panel(axis, rows, name, control, words, editors)
        figure.suptitle(
            f"{DATASETS[dataset].capitalize()} — {printable(model)}", x=0.01, ha="left", fontsize=10
        )
    return figure


def _panel(
    axis: Axes, rows: pd.DataFrame, name: str, control: str | None, words: str, editors: Sequence[str]
) -> None:
    entry, looks = metric(name), look(editors)
    values = _percentages(rows, name, editors)
    against = _percentages(rows, control, editors)
    for place, editor in enumerate(editors):
        value, low, high = values.loc[editor]
        if np.isnan(value):
            axis.text(0, place, "  no value", va="center", fontsize=7.5, color="#777777")
            continue
        colour, hatch = looks[editor]
        axis.barh(place, max(value, LOWEST), 0.66, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
        axis.plot([max(low, LOWEST), max(high, LOWEST)], [place] * 2, color="black", linewidth=1.3)
        if value < LOWEST:
            axis.text(LOWEST, place, f"◀ {value:.0f}", va="center", fontsize=7.5, color="white")
        if not np.isnan(reference := against.loc[editor, "value"]):
            axis.plot(
                max(reference, LOWEST), place, "D", markersize=4, color="white", markeredgecolor="black"
            )
    axis.set_yticks(range(len(editors)), [printable(e) for e in editors])
    axis.set_ylim(len(editors) - 0.5, -0.5)
    axis.set_title(f"{_short(entry.title)} {'↑' if entry.better == 'up' else '↓'}")
    if entry.scale != NATS:
        shown = [*values.to_numpy().ravel(), *against["value"]]
        lowest = np.nanmin([0.0, *shown])
        axis.set_xlim(max(LOWEST, 20 * np.floor(lowest / 20)) if lowest < -0.5 else 0, 102)
    axis.grid(axis="x")
    axis.axvline(0, color="#888888", linewidth=0.8)
    label = "100 × nats" if entry.scale == NATS else "%"
    axis.set_xlabel(f"{label}  ·  ◇ {words}" if words else label, color="#555555")


def _percentages(rows: pd.DataFrame, name: str | None, editors: Sequence[str]) -> pd.DataFrame:
    """Value, low and high of a metric times 100, by editor."""
    chosen = rows[rows["metric"] == name]
    return 100 * chosen.groupby("editor")[["value", "low", "high"]].mean().reindex(editors)


def _short(title: str) -> str:
    return title[0].upper() + title[1:]


# --- what happened to each object --------------------------------------------------------------------------
OBJECT_ROLES = ("original", "object", "target")


def sample_cases(probabilities: Mapping[str, pd.DataFrame], n: int, seed: int) -> list[int]:
    """Up to `n` round cases that all editors of `probabilities` have, those with three objects first."""
    shared = None
    for table in probabilities.values():
        complete = set(table.loc[(table["state"] == "2") & (table["role"] == "object"), "case_id"])
        shared = complete if shared is None else shared & complete
    cases = sorted(shared or ())
    if not cases:
        return []
    table = next(iter(probabilities.values()))
    sizes = table[(table["role"] == "object") & (table["state"] == "0")].groupby("case_id").size()
    order = generator(seed, "sample_cases").permutation(len(cases))
    return sorted((cases[i] for i in order), key=lambda case: sizes[case] < 2)[:n]


def objects(
    probabilities: Mapping[str, pd.DataFrame], cases: Sequence[int], labels: Mapping[str, str]
) -> Figure:
    """Probability of every true object of some round cases in three states, a panel per case and editor.

    As Figure 5 of Li et al. (2024): the object edited away and back comes first, its stand-in last.
    `labels` names relations by id.
    """
    first = next(iter(probabilities.values()))
    heights = [first[first["case_id"] == case].drop_duplicates(["role", "position"]) for case in cases]
    heights = [0.42 * rows["role"].isin(OBJECT_ROLES).sum() + 0.95 for rows in heights]
    with style():
        size = (1.75 * len(probabilities) + 1.8, sum(heights) + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        parts = figure.subfigures(len(cases), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, case in zip(parts, cases, strict=True):
            _case(part, probabilities, case, labels)
        handles = [
            Patch(facecolor=colour or "#444444", hatch=hatch, edgecolor="#777777", label=words)
            for words, colour, hatch in STATES.values()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False)
    return figure


def _case(
    figure: SubFigure, probabilities: Mapping[str, pd.DataFrame], case: int, labels: Mapping[str, str]
) -> None:
    editors = list(probabilities)
    axes = figure.subplots(1, len(editors), sharey=True, sharex=True, squeeze=False)[0]
    for axis, editor in zip(axes, editors, strict=True):
        rows = _of_case(probabilities[editor], case)
        _states(axis, rows, look(editors)[editor][0])
        axis.set_title(printable(editor, 24))
    names = [_object_name(row) for row in rows.drop_duplicates(["role", "position"]).itertuples()]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.45, -0.55)
    subject, relation = rows["subject"].iloc[0], rows["relation_id"].iloc[0]
    heading = f"{printable(subject)} — {printable(labels.get(relation, relation))}"
    figure.suptitle(f"Case {case}: {heading}", x=0.01, ha="left", fontsize=10)


def _of_case(table: pd.DataFrame, case: int) -> pd.DataFrame:
    """Rows of one case: the object edited back, the other true objects, the stand-in."""
    rows = table[(table["case_id"] == case) & table["role"].isin(OBJECT_ROLES)]
    rows = rows.assign(order=rows["role"].map({role: place for place, role in enumerate(OBJECT_ROLES)}))
    return rows.sort_values(["order", "position"], kind="stable")


def _object_name(row: object) -> str:
    marks = {"original": " (edited, then back)", "target": " (stand-in)"}
    return printable(row.object, 26) + marks.get(row.role, "")


def _states(axis: Axes, rows: pd.DataFrame, colour: str) -> None:
    places = rows.groupby(["order", "position"], sort=True).ngroup()
    for step, (state, (_, face, hatch)) in enumerate(STATES.items()):
        chosen = rows["state"] == state
        axis.barh(
            places[chosen] + (step - 1) * 0.25,
            rows.loc[chosen, "probability"],
            0.25,
            color=face or colour,
            hatch=hatch,
            edgecolor="#777777",
            linewidth=0.4,
        )
    axis.grid(axis="x")
    axis.set_xlim(left=0)
    axis.set_xlabel("probability", color="#555555")
