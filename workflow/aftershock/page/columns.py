"""Any frame as columns that one component of the page shows, sorts, filters and gives back as CSV.

A column is a dict with `id`, `label`, `kind` and, by kind,

    text       words (as in the file), shown (as on the page, where it differs), codes into them
    flag       values true, false or null
    number     values
    estimate   value, low, high, and where they are known n and clusters

and optionally `about` (its definition), `group` (a heading over several columns), `metric` (whose unit its
values have), `by` (the text column that names the metric of each row) and `signed` (a difference: its sign
counts).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from aftershock.datasets.table import title_of
from aftershock.metrics.catalogue import find_metric
from aftershock.page.embed import Words, numbers
from aftershock.page.roles import STATES

Column = dict[str, Any]

LONGEST = 8_000
"""Rows of one table that the page holds; the files beside it hold all."""

AS_TEXT = ("seed", "k", "N", "n_objects")
"""Whole numbers that name a group of rows and so are chosen from, not compared."""

ABOUT = {
    "model": "The language model that was edited.",
    "dataset": "The setting: which edits follow one another.",
    "editor": "The editing method, by its label in the configuration.",
    "seed": "The seed of the editors.",
    "subset": "All cases, or the strict ones, whose old and new fact cannot both hold.",
    "n": "Cases with a value.",
    "clusters": "Groups of cases that share entities; intervals treat these as independent, not cases.",
    "n_effective": "So many independent cases would give as wide an interval.",
    "value": "The mean over cases, with its interval.",
    "metric": "What is measured; the definition appears on hover or focus.",
}
FREE = (
    "order",
    "best",
    "base_best",
    "note",
    "statement",
    "estimand",
    "evidence",
    "source",
    "flag",
    "reported",
    "here",
    "first_rows",
    "examples",
)
"""Texts that are read and searched, not chosen from."""

LABELS = {
    "p_adjusted": "p corrected",
    "tau": "τ",
    "tau_resampled": "τ by chance",
    "editor": "method",
    "n_effective": "effective n",
    "dataset": "setting",
    "subset": "cases",
    "control_value": "control",
    "difference_value": "difference",
}


IN_UNIT = (
    "value",
    "other_value",
    "reported",
    "detectable",
    "detectable_family",
    "sd_seeds",
    "sd_cases",
    "sd_rest",
)
"""Numbers in the unit of their row's metric."""


def columns_of(
    frame: pd.DataFrame, about: Mapping[str, str] | None = None, centre: str = "value"
) -> list[Column]:
    """All columns of `frame`; a value with `low` and `high` beside it becomes one estimate.

    `about` defines columns by name, before the definitions that are known here; `centre` names the column
    that plain `low` and `high` belong to.
    """
    about = {**ABOUT, **(about or {})}
    made, taken = [], {"low", "high"} if centre in frame.columns else set()
    for name in frame.columns:
        if name in taken:
            continue
        ends = _ends(name, frame.columns)
        if name == centre and {"low", "high"} <= set(frame.columns):
            ends = ("low", "high")
        if ends:
            taken |= set(ends)
            column = estimate(frame, name, *ends)
            if "metric" in frame.columns:
                column["by"] = "metric"
            if "difference" in name:
                column["signed"] = True
            if name == "rank":
                column["unit"] = "rank"
        else:
            column = plain(frame[name], name)
            if "metric" in frame.columns and (name in IN_UNIT or name.endswith("_with_seeds")):
                column["by"] = "metric"
        if name in about:
            column["about"] = about[name]
        made.append(column)
    return made


def _ends(name: str, names: Sequence[str]) -> tuple[str, str] | None:
    """The columns with the ends of the interval of column `name`."""
    stem = name.removesuffix("value") if name.endswith("value") else f"{name}_"
    both = (f"{stem}low", f"{stem}high")
    return both if stem and set(both) <= set(names) else None


def label_of(name: str) -> str:
    """A column's name in words."""
    return LABELS.get(name, name.replace("_", " "))


def plain(values: pd.Series, name: str, label: str | None = None) -> Column:
    """A column of text, yes and no, or numbers, by what `values` holds."""
    column: Column = {"id": name, "label": label or label_of(name)}
    if pd.api.types.is_bool_dtype(values):
        return column | {"kind": "flag", "values": [None if pd.isna(v) else bool(v) for v in values]}
    if pd.api.types.is_numeric_dtype(values) and name not in AS_TEXT:
        return column | {"kind": "number", "values": numbers(values)}
    words = Words()
    codes = [words.place("" if pd.isna(value) else str(value)) for value in values]
    column |= {"kind": "text", "words": words.texts, "codes": codes}
    if name in FREE:
        column["free"] = True
    shown = [_in_words(name, word) for word in words.texts]
    return column | ({"shown": shown} if shown != words.texts else {})


SUBSETS = {"all": "all cases", "strict": "strict cases"}


def _in_words(name: str, word: str) -> str:
    if name == "subset":
        return SUBSETS.get(word, word)
    if name == "dataset":
        return title_of(word)
    if name == "state":
        return STATES[word][0] if word in STATES else word
    if name == "metric" or name.endswith("_metric"):
        entry = find_metric(word)
        return entry.title if entry else word
    return word


def estimate(frame: pd.DataFrame, value: str, low: str, high: str, label: str | None = None) -> Column:
    """A value with its interval, and n and clusters where columns of the same stem hold them."""
    column: Column = {"id": value, "label": label or label_of(value), "kind": "estimate"}
    for key, name in (("value", value), ("low", low), ("high", high)):
        column[key] = numbers(frame[name])
    stem = value.removesuffix("value")
    for key in ("n", "clusters"):
        if stem and stem != value and f"{stem}{key}" in frame.columns:
            column[key] = numbers(frame[f"{stem}{key}"])
    return column


def table(
    name: str,
    title: str,
    caption: str,
    columns: Sequence[Column],
    rows: int,
    files: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """A table for the page. `files` are links to it; `more` may hold `chosen`, filters by column."""
    return {"id": name, "title": title, "caption": caption, "columns": list(columns), "rows": rows,
            "files": list(files), **more}  # fmt: skip


def of_frame(
    name: str,
    frame: pd.DataFrame,
    title: str,
    caption: str = "",
    about: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
    centre: str = "value",
    **more: Any,
) -> dict[str, Any]:
    """A table of all columns of `frame`, of its first `LONGEST` rows."""
    kept = frame.head(LONGEST)
    if len(kept) < len(frame):
        more["of"] = len(frame)
    if "subset" in frame.columns and (frame["subset"] == "all").any():
        more["chosen"] = {"subset": "all"} | more.get("chosen", {})
    return table(name, title, caption, columns_of(kept, about, centre), len(kept), files, **more)


def metric_names(columns: Sequence[Column]) -> set[str]:
    """The metrics that a table's columns or rows are about."""
    names = {column["metric"] for column in columns if "metric" in column}
    for column in columns:
        if column["kind"] == "text" and (column["id"] == "metric" or column["id"].endswith("_metric")):
            names |= {word for word in column["words"] if find_metric(word)}
    return names
