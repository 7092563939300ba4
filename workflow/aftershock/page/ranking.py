"""The section of a page that ranks methods, question by question: sentences, and a table of ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
import pandas as pd

from aftershock.datasets.table import DATASETS, title_of
from aftershock.metrics.ranking.questions import BY_NAME, QUESTIONS, Question
from aftershock.page.columns import Column, estimate, plain, table
from aftershock.page.listed import files_of
from aftershock.words import PERCENT, listed

NAMED = 4
"""Methods that a sentence names one by one."""

HARDLY = 0.5
"""A method that writes a smaller share of its edits than this has little to keep or to undo."""


@dataclass(frozen=True)
class Answer:
    """The answer of a run to one question: sentences, and a note on what was measured."""

    question: str
    sentences: tuple[str, ...]
    note: str


def answers(ranks: pd.DataFrame, model: str) -> list[Answer]:
    """Return the answers about one model to all questions, from its RANKS."""
    mine = ranks[ranks["model"] == model]
    found = []
    for question in QUESTIONS:
        rows = mine[mine["question"] == question.name]
        if rows.empty:
            found.append(Answer(question.title, (f"This run did not ask: {question.missing}.",), ""))
        for place, part in rows.groupby("place", sort=False):
            found.append(
                Answer(question.title, tuple(_sentences(question, part)), _note(question, part, place))
            )
    return found


def _sentences(question: Question, rows: pd.DataFrame) -> list[str]:
    ranked = rows.dropna(subset="rank").sort_values("rank", kind="stable")
    if ranked.empty:
        return ["No method has enough values to be ranked."]
    first = ranked.iloc[0]
    told = [_first(question, ranked)]
    weak = [row for row in ranked.itertuples() if row.may_be_best and row.written < HARDLY]
    if question.name in ("keep", "undo", "abilities") and weak:
        who = _named([f"{row.editor} ({percent(row.written)} of its edits)" for row in weak])
        told.append(f"A method that writes little has little to lose: {who}.")
    rest = ranked[ranked["rank"] > 1] if (ranked["rank"] > 1).any() else ranked
    if len(ranked) > 1 and np.isfinite(rest["detectable"].iloc[0]):
        told.append(
            f"A lead of {_gap(question, rest['detectable'].iloc[0])} would have been found in "
            f"{100 * first['power']:g} of 100 runs like this one; a smaller one may be there unseen."
        )
    absent = rows[rows["rank"].isna()]
    if len(absent):
        told.append(f"Without a rank: {_named([_absent(row) for row in absent.itertuples()])}.")
    return told


def _first(question: Question, ranked: pd.DataFrame) -> str:
    """Return the sentence on who comes first, and on whether that is more than chance."""
    first, best = ranked.iloc[0], ranked[ranked["may_be_best"]]
    value = value_in_words(question, first["value"])
    if len(ranked) == 1:
        return f"{first['editor']} alone has a rank ({value}): there is nothing to compare it with."
    if first["winner"]:
        other = ranked.iloc[1]
        return (
            f"{first['editor']} is the best ({value}). The next is {other['editor']} "
            f"({value_in_words(question, other['value'])}), {_behind(question, first)}: more than chance "
            "explains."
        )
    ahead, others = best[best["rank"] == 1], best[best["rank"] > 1]
    leads = f"{_named(list(ahead['editor']))} come{'' if len(ahead) > 1 else 's'} first"
    together = " together" if len(ahead) > 1 else ""
    if len(ahead) == len(ranked):
        return f"No winner: all {len(ranked)} methods have the same value ({value})."
    if not np.isfinite(first["difference_low"]):
        return f"No winner. {leads}{together} ({value}), but one group of cases cannot tell that from chance."
    if others.empty:
        return f"No winner. {leads}{together} ({value}), ahead of all others by more than chance explains."
    names = _named([f"{row.editor} ({value_in_words(question, row.value)})" for row in others.itertuples()])
    whose = "their" if len(ahead) > 1 else "its"
    return f"No winner. {leads}{together} ({value}), but chance could explain {whose} lead over {names}."


def value_in_words(question: Question, value: float) -> str:
    """Return a value of RANKS with its unit."""
    if question.unit == "percent":
        return percent(value)
    if question.unit == "nats":
        return f"{100 * value:.2f}"
    return f"{_two_digits(exp(value))} s"


def _two_digits(value: float) -> str:
    """Return a number above 0 with two digits, or whole."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def percent(share: float) -> str:
    """Return a share as a whole percentage."""
    return f"{round(100 * share)}{PERCENT}".replace("-", "−")


def _gap(question: Question, size: float) -> str:
    """Return a difference of values in words."""
    if question.unit == "percent":
        points = 100 * size
        return f"{points:.0f} points" if points >= 1.5 else f"{points:.1f} points"
    if question.unit == "nats":
        return f"{100 * size:.2f}"
    return f"{_two_digits(exp(size))} times"


def _behind(question: Question, first: pd.Series) -> str:
    """Return how far the second method is behind, with the interval."""
    ends = sorted(abs(first[name]) for name in ("difference_low", "difference_high"))
    if question.unit == "seconds":
        low, high, ratio = (_two_digits(exp(size)) for size in (*ends, abs(first["difference"])))
        return f"which takes {ratio} times as long ({low} to {high})"
    gap, unit = _gap(question, abs(first["difference"])), 100
    low, high = (f"{unit * end:.0f}" if question.unit == "percent" else f"{unit * end:.2f}" for end in ends)
    return f"{gap} behind ({low} to {high})"


def _absent(row: Any) -> str:
    reason = str(row.note).removeprefix("not ranked: ")
    return f"{row.editor} ({reason})"


def _named(names: Sequence[str]) -> str:
    """Return some names, the last ones counted where they are many."""
    if len(names) <= NAMED:
        return listed(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def _note(question: Question, rows: pd.DataFrame, place: Any) -> str:
    """Return what was measured, where, and on how much."""
    where = " and ".join(title_of(name) if name in DATASETS else name for name in str(place).split(" + "))
    n, clusters = int(rows["n"].max()), int(rows["clusters"].max())
    better = "more" if question.better == "up" else "less"
    return (
        f"Measured: {question.about}; {better} is better ({rows['metrics'].iloc[0]}; {where}; {n} "
        f"value{'' if n == 1 else 's'} of each method in {clusters} cluster{'' if clusters == 1 else 's'})."
    )


def rank_table(ranks: pd.DataFrame, files: Sequence[str]) -> dict[str, Any] | None:
    """Return the table of ranks, a row per model and method and a column per question; None without any."""
    ranked = ranks.dropna(subset="rank")
    if ranked.empty:
        return None
    keys = ranks[["editor", "model"]].drop_duplicates().reset_index(drop=True)
    columns: list[Column] = [plain(keys[name], name) for name in keys]
    for (name, place), part in ranked.groupby(["question", "place"], sort=False):
        question = BY_NAME[name]
        rows = keys.merge(part, on=["editor", "model"], how="left")
        for end in ("rank", "rank_low", "rank_high"):
            rows[end] = rows[end].astype(float)
        column = estimate(rows, "rank", "rank_low", "rank_high", _short(question, place, ranked))
        columns.append(
            column
            | {
                "id": f"{name}.{place}",
                "unit": "rank",
                "about": f"{question.title} Rank by {question.about}; 1 is the best. Small: the ranks that "
                "chance leaves open, and the value.",
                "beside": _beside(question, rows),
                "bold": [best is True for best in rows["may_be_best"].astype(object)],
            }
        )
    caption = (
        "Rank of each method, the ranks that chance leaves open, and the value behind it. Bold: may be the "
        "best. A heading sorts by its question."
    )
    made = table("ranking", "Ranks at a glance", caption, columns, len(keys), files_of(files, "ranks"))
    return made | {"sort": columns[2]["id"]}


def _short(question: Question, place: str, ranked: pd.DataFrame) -> str:
    """Return the question in a word, with the place where a run asks it in several."""
    several = ranked.loc[ranked["question"] == question.name, "place"].nunique() > 1
    return f"{question.word}: {place.split(',')[0]}" if several else question.word


def _beside(question: Question, rows: pd.DataFrame) -> list[str]:
    return [
        "" if pd.isna(value) else value_in_words(question, value) + (" · winner" if winner is True else "")
        for value, winner in zip(rows["value"], rows["winner"].astype(object), strict=True)
    ]
