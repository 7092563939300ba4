"""Loss of abilities under two settings that differ in one thing: whether that moves the point of collapse."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from aftershock.metrics.abilities.collapse import UNMEASURED
from aftershock.metrics.abilities.settings import ALL
from aftershock.tables.abilities import SWITCHES

COLUMNS = {"editors": "editor", "plans": "plan", "tasks": "task"}
"""The column that a kind of switch sets."""

KEYS = ["model", "plan", "editor", "task"]
NEITHER, SAME = "lost with neither", "lost at the same checkpoint"

Wanted = Mapping[str, Mapping[str, Sequence[str]]]
"""By name, a kind of COLUMNS with its two settings."""


def switches(collapses: pd.DataFrame, abilities: pd.DataFrame, wanted: Wanted) -> pd.DataFrame:
    """Return SWITCHES of means over orders, from COLLAPSES and ABILITIES.

    A sequence that ended early is lost where it ended. What is retained is compared at the last checkpoint
    that both settings have.
    """
    lost = collapses[collapses["order"] == ALL]
    kept = abilities[(abilities["order"] == ALL) & abilities["headline"]].dropna(subset="retained")
    rows = [row for name, choice in wanted.items() for row in _of_switch(name, choice, lost, kept)]
    found = pd.DataFrame(rows, columns=list(SWITCHES.columns))
    return found.astype(dict.fromkeys(("one_lost_at", "other_lost_at", "checkpoint"), "Int64"))


def _of_switch(
    name: str, choice: Mapping[str, Sequence[str]], lost: pd.DataFrame, kept: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    ((kind, (one, other)),) = choice.items()
    column = COLUMNS[kind]
    beside = [key for key in KEYS if key != column]
    pairs = _pair(lost, column, (one, other), beside)
    last = _pair(kept, column, (one, other), [*beside, "checkpoint"])
    last = last.sort_values("checkpoint").drop_duplicates(beside, keep="last")
    ends = {tuple(end[part] for part in beside): end for end in last.to_dict("records")}
    for row in pairs.to_dict("records"):
        end = ends.get(tuple(row[part] for part in beside), {})
        points = [_lost_at(row, side) for side in ("_one", "_other")]
        yield {
            "switch": name,
            "one": one,
            "other": other,
            **{part: row.get(part, f"{one} / {other}") for part in KEYS},
            "one_lost_at": points[0],
            "other_lost_at": points[1],
            "effect": _effect(row, points, one, other),
            "checkpoint": end.get("checkpoint"),
            "one_retained": end.get("retained_one"),
            "other_retained": end.get("retained_other"),
        }


def _pair(table: pd.DataFrame, column: str, values: Sequence[str], on: Sequence[str]) -> pd.DataFrame:
    """Return the rows with either value of a column side by side, where all of `on` is equal."""
    one, other = (table[table[column] == value].drop(columns=column) for value in values)
    return one.merge(other, on=list(on), suffixes=("_one", "_other"))


def _lost_at(row: Mapping[str, Any], side: str) -> int | None:
    """Return the number of edits at which all is lost on one side of a pair of COLLAPSES rows."""
    points = [row[f"{name}{side}"] for name in ("checkpoint", "ended_at")]
    known = [int(point) for point in points if not pd.isna(point)]
    return min(known) if known else None


def _effect(row: Mapping[str, Any], points: Sequence[int | None], one: str, other: str) -> str:
    """Return the effect of a switch in words."""
    if UNMEASURED in (row["kind_one"], row["kind_other"]):
        return UNMEASURED
    first, second = points
    if first is None and second is None:
        return NEITHER
    if first is None or second is None:
        return f"lost with {one if second is None else other} only"
    if first == second:
        return SAME
    return f"lost earlier with {one if first < second else other}"
