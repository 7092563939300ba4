"""Probabilities of the true objects of a few round cases, as in Figure 5 of Li et al. (2024)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from aftershock.figures.style import DARK, IN_A_ROW, Look, heading, look, panel_grid, style
from aftershock.labels import printable
from aftershock.seeds import generator

STATES = {
    "0": ("unedited", "#d9d9d9", ""),
    "1": ("after the first edit", "#ffffff", "//////"),
    "2": ("after both", "", ""),
}
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
    probabilities: Mapping[str, pd.DataFrame],
    cases: Sequence[int],
    labels: Mapping[str, str],
    order: Sequence[str] = (),
) -> Figure:
    """Probability of every true object of some round cases in three states, a panel per case and editor.

    As Figure 5 of Li et al. (2024): the object edited away and back comes first, its stand-in last.
    `labels` names relations by id, `order` all methods of the run, whose looks stay the same.
    """
    first, looks = next(iter(probabilities.values())), look(order or list(probabilities))
    heights = [first[first["case_id"] == case].drop_duplicates(["role", "position"]) for case in cases]
    rows_of_panels = -(-len(probabilities) // IN_A_ROW)
    heights = [rows_of_panels * (0.42 * rows["role"].isin(OBJECT_ROLES).sum() + 0.95) for rows in heights]
    with style():
        size = (1.75 * min(len(probabilities), IN_A_ROW) + 1.8, sum(heights) + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        parts = figure.subfigures(len(cases), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, case in zip(parts, cases, strict=True):
            _case(part, probabilities, case, labels, looks)
        handles = [
            Patch(facecolor=colour or "#444444", hatch=hatch, edgecolor="#777777", label=words)
            for words, colour, hatch in STATES.values()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False)
    return figure


def _case(
    figure: SubFigure,
    probabilities: Mapping[str, pd.DataFrame],
    case: int,
    labels: Mapping[str, str],
    looks: Mapping[str, Look],
) -> None:
    editors = list(probabilities)
    axes = panel_grid(figure, len(editors), sharey=True, sharex=True)
    for axis, editor in zip(axes, editors, strict=True):
        rows = _of_case(probabilities[editor], case)
        _states(axis, rows, looks[editor].colour)
        axis.set_title(printable(editor, 24))
    names = [_object_name(row) for row in rows.drop_duplicates(["role", "position"]).itertuples()]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.45, -0.55)
    for axis in axes[-IN_A_ROW:]:
        axis.set_xlabel("probability", color=DARK)
    subject, relation = rows["subject"].iloc[0], rows["relation_id"].iloc[0]
    words = printable(labels.get(relation, relation))
    heading(figure, f"Case {case}: {printable(subject)} — {words}")


def _of_case(table: pd.DataFrame, case: int) -> pd.DataFrame:
    """Rows of one case: the object edited back, the other true objects, the stand-in."""
    rows = table[(table["case_id"] == case) & table["role"].isin(OBJECT_ROLES)]
    rows = rows.assign(order=rows["role"].map({role: place for place, role in enumerate(OBJECT_ROLES)}))
    return rows.sort_values(["order", "position"], kind="stable")


def _object_name(row: Any) -> str:
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
