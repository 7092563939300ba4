"""List of the tables that the page takes from files: name, title, caption, section.

A file of the list that a run does not have is left out. A table that is not listed stands at the end of its
section, under its file's name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from aftershock.page.column_texts import (
    ABOUT_ABILITIES,
    ABOUT_BREAKDOWNS,
    ABOUT_CLAIMS,
    ABOUT_COMPARISONS,
    ABOUT_HEALTH,
    ABOUT_JUDGED,
    ABOUT_RANKS,
    ABOUT_REPORTED,
    ABOUT_REPORTED_ABILITIES,
    ABOUT_SEEDS,
    ABOUT_STABILITY,
    ABOUT_SWITCHES,
)
from aftershock.page.columns import of_frame

RANKING, ABILITIES, HEALTH = "ranking", "abilities", "health"
CERTAINTY, PAPER, DETAIL = "certainty", "paper", "detail"
"""Sections of the page that take such tables."""


@dataclass(frozen=True)
class Listed:
    """A table of the page.

    `about` defines columns that only it has, `centre` names the column that `low` and `high` belong to,
    `chosen` rows are shown at first, `first` columns come first and `hidden` ones stay in its files.
    """

    name: str
    title: str
    caption: str
    section: str
    about: Mapping[str, str] = field(default_factory=dict)
    centre: str = "value"
    chosen: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


TABLES = (
    Listed(
        "ranks",
        "Ranks with what they rest on",
        "Every question with the value of each method, its difference from the first one, and the smallest "
        "difference that this run would have found.",
        RANKING,
        ABOUT_RANKS,
        "rank",
        first=("model", "question", "place", "editor", "rank", "rank_low", "rank_high", "value"),
        hidden=("power",),
    ),
    Listed(
        "collapses",
        "Where abilities are lost",
        "The first checkpoint at which less than the threshold is retained, with the whole interval. Abrupt: "
        "all but intact one checkpoint before, or perplexity grew at once.",
        ABILITIES,
        ABOUT_ABILITIES,
        "retained",
        first=("model", "plan", "editor", "task", "kind", "checkpoint", "before", "retained_before"),
        hidden=("order",),
    ),
    Listed(
        "abilities",
        "Tasks at every checkpoint",
        "Scores beside chance, the commonest answer and the unedited model.",
        ABILITIES,
        ABOUT_ABILITIES,
        first=(
            *("model", "plan", "editor", "task", "checkpoint", "metric", "value", "low", "high", "unedited"),
            *("difference", "p_adjusted", "significant", "retained", "floor", "above_chance", "parsed"),
            *("entropy", "repetition", "n", "left_out"),
        ),
        hidden=(
            *("order", "headline", "low_with_orders", "high_with_orders", "orders", "p", "test", "clusters"),
            *("chance", "majority", "unedited_entropy", "unedited_repetition", "truncated", "note"),
            *("difference_low", "difference_high", "retained_low", "retained_high"),
        ),
    ),
    Listed(
        "curves",
        "What becomes of edits",
        "Just edited is right after an edit was made; in the final state, the same prompt at the checkpoint.",
        ABILITIES,
        ABOUT_ABILITIES,
        hidden=("order", "low_with_orders", "high_with_orders", "orders", "clusters"),
    ),
    Listed(
        "switches",
        "What moves the collapse",
        "Two settings that differ in one thing, everything else equal: after how many edits a task is lost "
        "with each. Points are checkpoints: one that does not move may still move in between.",
        ABILITIES,
        ABOUT_SWITCHES,
    ),
    Listed(
        "judged_answers",
        "Exact match beside a judge",
        "Generated answers as they match the expected one, and as another model judges them. Scores of two "
        "judges, or under two instructions, do not compare: the judge's name and a hash of its instruction "
        "stand in each row.",
        ABILITIES,
        ABOUT_JUDGED,
        "judged",
        first=(
            *("model", "plan", "editor", "task", "checkpoint", "metric", "exact", "judged", "low", "high"),
            *("agreement", "kappa", "n", "unjudged", "judge", "prompt_sha256"),
        ),
    ),
    Listed(
        "reported_abilities",
        "Reported results",
        "Of two studies, where the model or the benchmark is one of this run. Values of this run stand "
        "beside them where model, method, way of editing, task and protocol match.",
        ABILITIES,
        ABOUT_REPORTED_ABILITIES,
    ),
    Listed(
        "ability_claims",
        "What studies of general abilities claim",
        "Each claim with what was estimated, and whether this run supports it, does not, or cannot test it.",
        ABILITIES,
        ABOUT_CLAIMS,
        chosen={"part": "all parts together"},
        first=("claim", "verdict", "part", "evidence", "statement", "estimand"),
        hidden=("value", "low", "high", "n"),
    ),
    Listed(
        "health",
        "Changes of weights, and perplexity after them",
        "Medians over cases and the worst case; of several weights that change, the worst one counts.",
        HEALTH,
        ABOUT_HEALTH,
        chosen={"state": "2"},
        first=(
            "model",
            "dataset",
            "editor",
            "seed",
            "state",
            "collapsed",
            "measured",
            "disabling",
            "cases",
            "perplexity_median",
            "perplexity_worst",
            "relative_median",
            "relative_worst",
        ),
    ),
    Listed(
        "comparisons",
        "Methods against each other",
        "The same cases under two methods: mean difference with its interval, and a paired test "
        "corrected for all comparisons of its family. A difference that is not told from zero may still be "
        "there: the smallest that this run would have found stands beside it.",
        CERTAINTY,
        ABOUT_COMPARISONS,
        "difference",
        {"family": "table1"},
        (
            "model",
            "subset",
            "family",
            "dataset",
            "metric",
            "editor",
            "other",
            "value",
            "other_value",
            "difference",
            "low",
            "high",
            "p_adjusted",
            "significant",
            "detectable_family",
            "n",
            "clusters",
        ),
        ("kish", "interval"),
    ),
    Listed(
        "seeds",
        "Seeds",
        "How much a result moves with the seed, beside how much cases differ. With one seed the first is "
        "unknown.",
        CERTAINTY,
        ABOUT_SEEDS,
    ),
    Listed(
        "stability",
        "Does the order of methods depend on how probabilities are made?",
        "Each row orders the methods by another way of making probabilities. A τ far below what resampling "
        "alone gives says that the order hangs on the choice.",
        CERTAINTY,
        ABOUT_STABILITY,
    ),
    Listed(
        "claims",
        "What the paper claims",
        "Each claim, and whether this run supports it, does not, or cannot test it.",
        PAPER,
        ABOUT_CLAIMS,
        chosen={"part": "all parts together"},
        first=("model", "claim", "verdict", "part", "evidence", "statement"),
        hidden=("value", "low", "high", "n"),
    ),
    Listed(
        "reported",
        "Reported figures beside ours",
        "Figures of the paper with their place in it. A difference is given only where model and data match.",
        PAPER,
        ABOUT_REPORTED,
    ),
    Listed("reported_notes", "What does not match", "Where this run and the paper's differ, by part.", PAPER),
    Listed(
        "breakdowns",
        "Broken down",
        "The same metrics over parts of the cases. Small parts have wide intervals, and a part that stands "
        "out among many may do so by chance.",
        DETAIL,
        ABOUT_BREAKDOWNS,
    ),
    Listed(
        "summary",
        "Every metric",
        "All metrics of all runs, with their intervals.",
        DETAIL,
        hidden=("kish", "interval"),
    ),
)
BY_NAME = {entry.name: entry for entry in TABLES}
OWN = ("single", "table1", "table1_released", "table2", "table2_released", "controls", "recall")
"""Files whose tables `layouts` makes."""

KINDS = ("csv", "parquet", "tex", "md")


def listed(frames: Mapping[str, pd.DataFrame], files: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Section and table of every frame, in the order of the list and then of their names.

    `frames` are by file name without ending, `files` the paths of all files with tables, from the page.
    """
    known = [entry.name for entry in TABLES if entry.name in frames]
    for name in [*known, *sorted(set(frames) - set(known) - set(OWN))]:
        entry = BY_NAME.get(name, Listed(name, name.replace("_", " ").capitalize(), "", DETAIL))
        about, links = entry.about, files_of(files, name)
        made = of_frame(
            name, _arranged(frames[name], entry), entry.title, entry.caption, about, links, entry.centre,
            chosen=dict(entry.chosen),
        )  # fmt: skip
        yield entry.section, made


def _arranged(frame: pd.DataFrame, entry: Listed) -> pd.DataFrame:
    """The columns of `frame` that the page shows, in its order."""
    front = [name for name in entry.first if name in frame]
    rest = [name for name in frame if name not in (*front, *entry.hidden)]
    return frame[front + rest]


def read_tables(paths: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """The parquet files among `paths` that the page takes as they are, by name without ending."""
    wanted = [path for path in paths if path.suffix == ".parquet" and path.stem not in OWN]
    return {path.stem: pd.read_parquet(path) for path in wanted}


def files_of(files: Sequence[str], *names: str) -> list[str]:
    """The `files` that hold a table called one of `names`, by kind."""
    order = {(name, kind): place for place, (name, kind) in enumerate(product(names, KINDS))}
    stems = {file: (PurePath(file).stem, PurePath(file).suffix[1:]) for file in files}
    return sorted((file for file in files if stems[file] in order), key=lambda file: order[stems[file]])
