"""Editors' names for readers, in place of their labels in a run's tables."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

EDITOR_COLUMNS = ("editor", "other")
IN_TEXT = ("order", "best", "base_best", "part", "evidence")
"""Columns whose texts name editors among other words."""

Names = Mapping[str, str]


def with_names(frame: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return `frame` with the name of each editor in place of its label; labels without one stay."""
    found = {column: frame[column].replace(dict(names)) for column in EDITOR_COLUMNS if column in frame}
    if names:
        labels = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        pattern = re.compile(rf"(?<![\w.-])({labels})(?![\w-])")
        for column in IN_TEXT:
            if column in frame:
                found[column] = frame[column].map(lambda text: _named(pattern, text, names))
    return frame.assign(**found)


def _named(pattern: re.Pattern[str], text: Any, names: Names) -> Any:
    return pattern.sub(lambda hit: names[hit[1]], text) if isinstance(text, str) else text


def runs_with_names(runs: Iterable[Mapping[str, Any]], names: Names) -> list[dict[str, Any]]:
    """Return what identifies some runs, with names of editors in place of their labels."""
    return [run_with_name(run, names) for run in runs]


def run_with_name(run: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Return what identifies a run, or a job, with the name of its editor if it has one."""
    return {**run, "editor": names.get(run["editor"], run["editor"])} if "editor" in run else dict(run)


def bars_with_names(bars: Sequence[Mapping[str, Any]], names: Names) -> list[dict[str, Any]]:
    """Return the configuration's bars with names of editors in place of their labels."""
    return [
        {**bar, **({"editors": [names.get(e, e) for e in bar["editors"]]} if "editors" in bar else {})}
        for bar in bars
    ]


def variants_with_names(variants: Sequence[Mapping[str, Any]], names: Names) -> list[dict[str, Any]]:
    """Return the configuration's variants with names of editors in place of their labels."""
    return [
        {key: names.get(value, value) if key in ("editor", "of") else value for key, value in variant.items()}
        for variant in variants
    ]
