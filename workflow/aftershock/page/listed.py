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

from aftershock.page.columns import of_frame

ABILITIES, HEALTH, CERTAINTY, PAPER, DETAIL = "abilities", "health", "certainty", "paper", "detail"
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


ABOUT_COMPARISONS = {
    "family": "The table that the metric belongs to; p is corrected for all comparisons of a family.",
    "editor": "One method; the difference is its mean minus the other's.",
    "other": "The method it is compared with, on the same cases.",
    "value": "The method's mean over the cases that both have a value for.",
    "other_value": "The other method's mean over these cases.",
    "difference": "Mean over cases of the difference, with its interval, which is not corrected.",
    "p": "How often chance alone gives so large a difference: the signs of whole clusters are flipped.",
    "p_adjusted": "p, corrected for all comparisons of the family.",
    "exact": "Whether p is from all flips of signs, or from a sample of them.",
    "significant": "Whether chance is ruled out at the level of the run after correction.",
    "dz": "Cohen's d_z: the mean difference over the standard deviation of the cases' differences.",
    "rank_biserial": "Matched-pairs rank-biserial correlation: from −1, the other always higher, to 1.",
    "wins": "Cases with the higher value for the method; higher is not always better.",
    "losses": "Cases with the lower value for the method.",
    "ties": "Cases with equal values.",
    "detectable": "The smallest difference that one test would have found with the power that is set.",
    "detectable_family": "The same when p is corrected for the family.",
}
ABOUT_SEEDS = {
    "value": "Mean over seeds and cases, with an interval over cases.",
    "n": "Cases with a value under every seed.",
    "empty": "Cases without a value under some seed.",
    "sd_seeds": "Standard deviation between seeds.",
    "sd_cases": "Standard deviation between cases.",
    "sd_rest": "What neither explains.",
    "low_with_seeds": "Lower end of an interval over cases and seeds.",
    "high_with_seeds": "Upper end of an interval over cases and seeds.",
}
ABOUT_STABILITY = {
    "scoring": "How tokens make a probability: geometric mean, joint, or the first token alone.",
    "prompts": "Which wordings count.",
    "pairs": "All cases, or those whose compared objects have equally many tokens.",
    "tau": "Kendall's τ-b with the order under the usual scoring: 1 is the same order, −1 the reverse.",
    "tau_resampled": "What chance alone does: mean τ-b with the order in resamples of clusters.",
    "order": "The methods, the best first.",
    "best": "The method in front under this scoring.",
    "base_best": "The method in front under the usual scoring.",
    "same_best": "Whether the same method is in front.",
}
ABOUT_BREAKDOWNS = {
    "facet": "What the cases are divided by.",
    "level": "The part of the cases.",
}
ABOUT_CLAIMS = {
    "part": "What is compared.",
    "verdict": "Supported, not supported, or not testable with this run.",
    "evidence": "The values that the verdict rests on.",
    "source": "Where the paper says it.",
}
ABOUT_REPORTED = {
    "reported": "The figure in the paper.",
    "reported_n": "Comparisons behind it.",
    "value": "This run's figure, computed as the released code does.",
    "difference": "This run's figure minus the reported one; with an interval for rates.",
    "flag": "Why the reported figure cannot be right.",
}
ABOUT_HEALTH = {
    "state": "Which edits have been made.",
    "cases": "Cases whose edits all worked.",
    "norm_median": "Frobenius norm of the change since the unedited model, in the weight that changes most.",
    "norm_worst": "The largest of all cases.",
    "relative_median": "The norm of the change by that of the weight.",
    "relative_worst": "The largest of all cases.",
    "touched_median": "Share of the weight's rows whose change has 1 % of their norm or more.",
    "touched_worst": "The largest of all cases.",
    "rank_median": "Numerical rank of the change; empty for changes of whole matrices.",
    "rank_worst": "The largest of all cases.",
    "condition_median": "Condition of the equations that the change was solved from, if there are any.",
    "condition_worst": "The largest of all cases.",
    "measured": "Cases in which perplexity was measured.",
    "unedited": "Perplexity of the text before any edit.",
    "perplexity_median": "Perplexity of the text in this state by that of the unedited model.",
    "perplexity_worst": "The largest of the measured cases.",
    "collapsed": "Measured cases whose perplexity ratio is beyond the threshold of a collapse.",
    "disabling": "Cases with a change whose norm is beyond the threshold in medians.",
    "collapse_threshold": "Perplexity ratio beyond which a model counts as collapsed.",
    "disabling_threshold": "Norm, in medians of the same run, state and weight, of a disabling edit.",
}
ABOUT_ABILITIES = {
    "plan": "The sequence of edits, by its name in the configuration.",
    "checkpoint": "Edits made; 0 is the unedited model.",
    "n": "Items with a value, without those about edited facts.",
    "chance": "What guessing among the choices reaches.",
    "majority": "What always giving the commonest answer reaches.",
    "floor": "The higher of both: what is reached by accident.",
    "above_chance": "The unedited model does the task better than by accident, by a one-sided interval.",
    "difference": "From the unedited model, item by item, with its interval, which is not corrected.",
    "p_adjusted": "p of a paired test against the unedited model, corrected for all tests of the sequence.",
    "retained": "(score - floor) / (unedited score - floor); of texts, unedited perplexity / perplexity.",
    "parsed": "Share of the outputs in which an answer could be read.",
    "entropy": "Of the answers, in bits: 0 when all are the same.",
    "repetition": "Share of n-grams of three words that repeat an earlier one of the same text.",
    "left_out": "Items that ask about an edited fact.",
    "age": "Edits made since the edit.",
    "kind": "none, gradual, abrupt; unclear where checkpoints are missing.",
    "before": "The checkpoint measured before the loss.",
    "ended_at": "Edits after which the sequence stopped early.",
    "value": "The score, with its interval over items.",
}
ABOUT_REPORTED_ABILITIES = {
    "reported": "The figure in the study.",
    "flag": "What is odd about it.",
    "note": "What differs, or why nothing of this run stands beside it.",
}
TABLES = (
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
