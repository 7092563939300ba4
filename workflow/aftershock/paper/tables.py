"""The tables of a run as a paper prints them, in LaTeX and in Markdown: methods as rows grouped by model,
settings as groups of columns, the best value of each column in bold; with and without intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from aftershock.labels import for_latex, for_markdown
from aftershock.metrics.catalogue import NATS, metric
from aftershock.metrics.intervals import LEVEL
from aftershock.metrics.layouts import LAYOUTS, PAPER, Column, Layout, table

DEFINITIONS = {PAPER: "as the paper defines them", "released": "as the released code computes them"}
ARROWS = {"up": ("$\\uparrow$", "↑"), "down": ("$\\downarrow$", "↓"), "": ("", "")}


@dataclass(frozen=True)
class Entry:
    """A value with its interval as numbers in text, without marks; empty where a run has none."""

    value: str = ""
    low: str = ""
    high: str = ""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One row of a table: a method of a model."""

    model: str
    method: str
    entries: tuple[Entry, ...]


def paper_tables(
    summary: pd.DataFrame, runs: Sequence[Mapping[str, Any]], level: float = LEVEL
) -> dict[str, str]:
    """Text by file name: every layout and definition as .tex and .md, each also with intervals of `level`.

    `summary` has SUMMARY rows and `runs` names every run that was asked for; all cases count.
    """
    files = {}
    for name, layout in LAYOUTS.items():
        for definition, columns in layout.columns.items():
            rows = table(summary, runs, layout, definition)
            rows = rows[rows["subset"] == "all"].drop(columns="subset")
            lines = body(rows, columns)
            title = caption(layout, definition, rows)
            file = name if definition == PAPER else f"{name}_{definition}"
            for suffix, intervals in (("", None), ("_intervals", level)):
                files[f"{file}{suffix}.tex"] = latex(lines, columns, title, f"{file}{suffix}", intervals)
                files[f"{file}{suffix}.md"] = markdown(lines, columns, title, intervals)
    return files


def caption(layout: Layout, definition: str, rows: pd.DataFrame) -> str:
    """Title, definition and numbers of cases, stated once where equal for all methods."""
    words = DEFINITIONS[definition] if len(layout.columns) > 1 else ""
    columns = layout.columns[definition]
    counts = []
    for dataset in dict.fromkeys(column.dataset for column in columns):
        n = rows[[f"{column.name}.n" for column in columns if column.dataset == dataset]].to_numpy()
        if n.size and n.max() > 0:
            least, most = n[n > 0].min(), n.max()
            counts.append(f"{dataset.replace('_', ' ')} {least if least == most else f'{least} to {most}'}")
    parts = [f"{layout.title.partition(': ')[2] or layout.title}{', ' + words if words else ''}."]
    parts = [part[:1].upper() + part[1:] for part in parts]
    if counts:
        parts.append(f"Cases: {', '.join(counts)}.")
    return " ".join(parts)


def body(rows: pd.DataFrame, columns: Sequence[Column]) -> list[Line]:
    """The lines of `table` rows; the best value of a model's column is marked where values differ."""
    several = rows["seed"].nunique() > 1
    entries = [_entries(rows, column) for column in columns]
    return [
        Line(row.model, row.editor + (f" (seed {row.seed})" if several else ""), tuple(cells))
        for row, *cells in zip(rows[["model", "editor", "seed"]].itertuples(), *entries, strict=True)
    ]


def _entries(rows: pd.DataFrame, column: Column) -> list[Entry]:
    entry = metric(column.metric)
    texts = [
        [_number(x, column.metric) for x in rows[f"{column.name}.{figure}"]]
        for figure in ("value", "low", "high")
    ]
    shown = pd.Series([float(text) if text else np.nan for text in texts[0]], rows.index, dtype=float)
    by_model = shown.groupby(rows["model"])
    best = pd.Series(False, index=rows.index)
    if entry.better:
        best = shown == by_model.transform("max" if entry.better == "up" else "min")
        best &= by_model.transform("nunique") > 1
    return [
        Entry(value, low, high, one)
        for value, low, high, one in zip(texts[0], texts[1], texts[2], best, strict=True)
    ]


def _number(value: float, name: str) -> str:
    """`value` in the unit in which a table prints the metric; no minus before a zero."""
    if pd.isna(value):
        return ""
    entry = metric(name)
    factor, digits = (100, 2) if entry.scale == NATS else (100, 1) if entry.percent else (1, 2)
    text = f"{factor * value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


# --- LaTeX ------------------------------------------------------------------------------------------------
def latex(
    lines: Sequence[Line], columns: Sequence[Column], title: str, label: str, intervals: float | None = None
) -> str:
    """A floating table of booktabs rules, with intervals of the level `intervals`; labels are escaped."""
    groups = [(name, len(list(part))) for name, part in groupby(columns, key=lambda column: column.group)]
    heads, rules, place = [], [], 3
    for name, width in groups:
        heads.append(f"\\multicolumn{{{width}}}{{c}}{{{for_latex(name)}}}")
        rules.append(f"\\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    names = [f"{for_latex(c.header)} {ARROWS[metric(c.metric).better][0]}".strip() for c in columns]
    size = "\\small\\setlength{\\tabcolsep}{3.5pt}"
    if intervals:
        size = "\\footnotesize\\setlength{\\tabcolsep}{2pt}\\renewcommand{\\arraystretch}{1.3}"
    note = " Bold: best of a model's methods."
    note += (
        f" Beside values: upper and lower ends of {100 * intervals:g}\\,\\% intervals." if intervals else ""
    )
    text = [
        "% \\usepackage{booktabs}",
        "\\begin{table*}[t]",
        f"  \\centering\\setlength{{\\belowcaptionskip}}{{4pt}}{size}",
        f"  \\caption{{{for_latex(title)}{note}}}",
        f"  \\label{{tab:{label.replace('_', '-')}}}",
        f"  \\begin{{tabular}}{{ll{'r' * len(columns)}}}",
        "    \\toprule",
        f"    & & {' & '.join(heads)} \\\\",
        f"    {' '.join(rules)}",
        f"    Model & Method & {' & '.join(names)} \\\\",
    ]
    for model, part in groupby(lines, key=lambda line: line.model):
        text.append("    \\midrule")
        for place, line in enumerate(part):
            cells = [_tex_cell(entry, bool(intervals)) for entry in line.entries]
            about = ["" if place else for_latex(model), for_latex(line.method)]
            text.append(f"    {' & '.join([*about, *cells])} \\\\")
    return "\n".join([*text, "    \\bottomrule", "  \\end{tabular}", "\\end{table*}", ""])


def _tex_cell(entry: Entry, intervals: bool) -> str:
    if not entry.value:
        return "--"
    value = f"\\mathbf{{{entry.value}}}" if entry.best else entry.value
    return f"${value}\\,^{{{entry.high}}}_{{{entry.low}}}$" if intervals else f"${value}$"


# --- Markdown ---------------------------------------------------------------------------------------------
def markdown(
    lines: Sequence[Line], columns: Sequence[Column], title: str, intervals: float | None = None
) -> str:
    """A table with pipes, groups and headers in one line, intervals as in `latex`; labels are escaped."""
    note = " **Bold**: best of a model's methods." + (
        f" In brackets: {100 * intervals:g} % intervals." if intervals else ""
    )
    names = [
        f"{for_markdown(c.group)} {for_markdown(c.header)} {ARROWS[metric(c.metric).better][1]}".strip()
        for c in columns
    ]
    rows = [["Model", "Method", *names], ["---", "---", *["---:"] * len(columns)]]
    rows += [
        [
            for_markdown(line.model),
            for_markdown(line.method),
            *(_cell(e, bool(intervals)) for e in line.entries),
        ]
        for line in lines
    ]
    return "\n".join([f"{for_markdown(title)}{note}", "", *(f"| {' | '.join(row)} |" for row in rows), ""])


def _cell(entry: Entry, intervals: bool) -> str:
    if not entry.value:
        return "–"
    value, low, high = (text.replace("-", "−") for text in (entry.value, entry.low, entry.high))
    value = f"**{value}**" if entry.best else value
    return f"{value} ({low} to {high})" if intervals else value
