"""The tables of the page, as cells with a text, an interval and a strip that shows both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from aftershock.metrics.catalogue import NATS, metric
from aftershock.metrics.layouts import ALL, CONTROLLED, LAYOUTS, PAPER, Column, control_table, table
from aftershock.tables import FIGURES
from aftershock.words import DATASETS, TEMPLATES, percent, shown

SUBSETS = {"all": "all cases", "strict": "strict cases"}
ARROWS = {"up": "↑", "down": "↓", "": ""}


@dataclass(frozen=True)
class Cell:
    """A value as text with its interval, and where both lie on a strip from 0 to 100."""

    text: str
    interval: str = ""
    counts: str = ""
    left: float = 0.0
    width: float = 0.0
    dot: float = 0.0
    zero: float | None = None
    best: bool = False
    note: str = ""
    mark: str = ""


PERCENT = "\N{NO-BREAK SPACE}%"
NOTHING = Cell("–", counts="no value")


def tables(summary: pd.DataFrame, runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every table under every definition and subset: groups of headers and rows of cells."""
    several = len({run["seed"] for run in runs}) > 1
    shown_tables = []
    for name, layout in LAYOUTS.items():
        panels = []
        for definition, columns in layout.columns.items():
            rows = table(summary, runs, layout, definition)
            for subset in SUBSETS:
                part = rows[rows["subset"] == subset]
                body = [
                    {
                        "model": row["model"],
                        "editor": row["editor"] + (f" (seed {row['seed']})" if several else ""),
                        "cells": cells,
                    }
                    for row, cells in zip(part.to_dict("records"), _cells(part, columns), strict=True)
                ]
                file = name if definition == PAPER else f"{name}_{definition}"
                groups = _groups(columns, body)
                panels.append({"definition": definition, "subset": subset, "rows": body, "file": file,
                               "groups": groups, "columns": [_header(c) for c in columns]})  # fmt: skip
        both = len(layout.columns) > 1
        shown_tables.append({"name": name, "title": layout.title, "panels": panels, "both": both})
    return shown_tables


def _cells(rows: pd.DataFrame, columns: Sequence[Column]) -> list[list[Cell]]:
    """Cells by row; the best value of a column and model is marked."""
    by_column = []
    for column in columns:
        figures = rows[[f"{column.name}.{f}" for f in FIGURES]]
        best = _best(rows.assign(value=figures.iloc[:, 0]), metric(column.metric).better)
        ends = (0.0, figures[f"{column.name}.high"].max()) if metric(column.metric).scale == NATS else None
        by_column.append(
            [cell(column.metric, *row, best=b, ends=ends)
             for row, b in zip(figures.itertuples(index=False), best, strict=True)]
        )  # fmt: skip
    return [list(cells) for cells in zip(*by_column, strict=True)]


def _best(rows: pd.DataFrame, better: str) -> list[bool]:
    by_model = rows.groupby("model")["value"]
    if len(rows) < 2 or not better:
        return [False] * len(rows)
    best = rows["value"] == by_model.transform("max" if better == "up" else "min")
    return list(best & (by_model.transform("nunique") > 1))


def cell(
    name: str,
    value: float,
    low: float,
    high: float,
    n: int,
    clusters: int,
    best: bool = False,
    ends: tuple[float, float] | None = None,
) -> Cell:
    """One cell; its strip runs between `ends`, or from 0 to 1 and for negative values from -1."""
    if not n:
        return NOTHING
    start, end = ends or (0.0 if low >= 0 else -1.0, 1.0)
    end = max(end, start + 1e-9)

    def place(x: float) -> float:
        return round(100 * (min(max(x, start), end) - start) / (end - start), 1)

    text = shown(value, name).removesuffix(PERCENT)
    interval = " to ".join(shown(end, name).removesuffix(PERCENT) for end in (low, high))
    return Cell(
        text,
        interval,
        f"n = {n}, {clusters} clusters",
        place(low),
        round(place(high) - place(low), 1),
        place(value),
        place(0.0) if start < 0 else None,
        best,
    )


def _header(column: Column) -> dict[str, str]:
    entry = metric(column.metric)
    return {"text": f"{column.header} {ARROWS[entry.better]}", "metric": entry.name, "about": entry.about}


def _groups(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of columns with their width and, where it is the same for all their values, the number of cases.

    Where it is not, each cell of `rows` gets it as a note.
    """
    names = [column.group for column in columns]
    groups = []
    for name in dict.fromkeys(names):
        places = [place for place, group in enumerate(names) if group == name]
        counts = {row["cells"][place].counts for row in rows for place in places} - {NOTHING.counts}
        if len(counts) > 1:
            for row in rows:
                for place in places:
                    row["cells"][place] = replace(row["cells"][place], note=row["cells"][place].counts)
        groups.append(
            {"name": name, "width": len(places), "counts": counts.pop() if len(counts) == 1 else ""}
        )
    return groups


def controls(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Per model and dataset a row per comparison, with the paired difference of every editor."""
    rows = control_table(summary)
    rows = rows[(rows["subset"] == "all") & (rows["seed"] == rows["seed"].min())]
    blocks = []
    for (model, dataset), part in sorted(
        rows.groupby(["model", "dataset"], sort=False), key=lambda block: list(DATASETS).index(block[0][1])
    ):
        editors = list(dict.fromkeys(part["editor"]))
        comparisons = []
        for name, control, words in CONTROLLED:
            chosen = part[(part["metric"] == name) & (part["control"] == control)]
            # In coverage the implicit fact is the explicit one.
            if chosen.empty or (dataset == "coverage" and name == "conflict_score_imp"):
                continue
            widest = chosen[["difference_low", "difference_high"]].abs().max(axis=None)
            cells = {row["editor"]: _difference(name, row, widest) for row in chosen.to_dict("records")}
            comparisons.append(
                {
                    "title": metric(name).title,
                    "against": words,
                    "cells": [cells.get(e, NOTHING) for e in editors],
                }
            )
        blocks.append({"model": model, "dataset": DATASETS[dataset], "editors": editors, "rows": comparisons})
    return blocks


def _difference(name: str, row: Mapping[str, Any], widest: float) -> Cell:
    """The difference from a control, with both sides as a note and what its interval says as a mark."""
    figures = [row[f"difference_{f}"] for f in FIGURES]
    whole = cell(name, *figures, ends=(-widest, widest))
    if whole is NOTHING:
        return NOTHING
    mark = "beyond" if row["difference_low"] > 0 else "below" if row["difference_high"] < 0 else "same"
    sides = [shown(row[side], name).removesuffix(PERCENT) for side in ("value", "control_value")]
    sign = "+" if row["difference_value"] > 0 else ""
    return replace(whole, text=sign + whole.text, note=" against ".join(sides), mark=mark)


def datasets(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Per model and dataset: cases, those strict, clusters, and what the unedited model knows."""
    rows = summary[summary["metric"] == "edit_failed"]
    known = summary[(summary["metric"] == "known") & (summary["subset"] == "all")]
    known = known.groupby(["model", "dataset"])["value"].first()
    result = []
    for (model, dataset), part in rows.groupby(["model", "dataset"], sort=False):
        whole = part[part["subset"] == "all"].iloc[0]
        share = known.get((model, dataset))
        result.append(
            {
                "model": model,
                "dataset": DATASETS[dataset],
                "cases": int(whole["n"]),
                "strict": int(part.loc[part["subset"] == "strict", "n"].iloc[0]),
                "clusters": int(whole["clusters"]),
                "known": "–" if pd.isna(share) else percent(share),
            }
        )
    return result


def recall_rows(recall: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per model and relation with a cell per group of templates."""
    result = []
    for (model, relation), part in recall.groupby(["model", "relation"], sort=False):
        cells = {row["group"]: cell("known", *(row[f] for f in FIGURES)) for row in part.to_dict("records")}
        cells = [cells.get(group, NOTHING) for group in TEMPLATES]
        cells = [replace(c, note=c.counts) for c in cells]
        result.append({"model": model, "relation": relation, "whole": relation == ALL, "cells": cells})
    return result
