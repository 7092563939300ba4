"""Findings of a run in plain words, with their uncertainty, from its SUMMARY rows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aftershock.metrics.catalogue import metric
from aftershock.metrics.intervals import LEVEL
from aftershock.verdicts import first_seed
from aftershock.words import between, listed, rounded


@dataclass(frozen=True)
class Value:
    """A value and its interval, as text."""

    text: str
    interval: str


@dataclass(frozen=True)
class Finding:
    """A question and the answer of this run: sentences, a table with a row for each editor, and counts.

    `columns` are the metrics in plain words, each with its definition. The editors come in the order of the
    first metric, the best first, and those without a value of it last; a row has None for a metric that it
    has no value of.
    """

    question: str
    sentences: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[Value | None, ...]], ...]
    counts: str


@dataclass(frozen=True)
class Question:
    """A question that a dataset answers.

    `rows` are metrics in plain words, the one that methods are sorted by first; those with a sentence are
    said as a range over methods. `difference`
    is a metric minus its control, `control` that in words.
    """

    text: str
    dataset: str
    rows: tuple[tuple[str, str], ...]
    sayings: tuple[tuple[str, str], ...]
    what: str = ""
    difference: str = ""
    control: str = ""


BORROWED = "under the second edit of another case"
SIDES = ("sides with the second edit", "conflict_score_imp")
OVERRULED = (
    "Asked in the first edit's direction, the model sides with the second edit in {} of cases.",
    SIDES[1],
)
QUESTIONS = (
    Question(
        "Does a single edit take, and what else moves?",
        "coverage",
        (
            ("new object is the greedy answer", "single_exact"),
            ("… to held-out paraphrases", "single_held_out"),
            ("… to paraphrases answered before", "single_paraphrase_answered"),
            ("neighbours stay right", "single_neighbours_kept"),
            ("same subject's other facts stay right", "single_same_subject_kept"),
        ),
        (
            ("The new object is the greedy answer in {} of edits.", "single_exact"),
            ("Of its neighbours, facts of other subjects with the same relation, {} stay right.",
             "single_neighbours_kept"),
        ),
    ),
    Question(
        "Does a second edit of the same fact replace the first?",
        "coverage",
        (
            ("second object is the greedy answer", "e2_exact"),
            ("second object likelier than the first", "conflict_score_exp"),
            ("first object's probability lost", "conflict_magnitude"),
        ),
        (("The second object is the greedy answer in {} of cases.", "e2_exact"),),
        "The first object's loss",
        "conflict_magnitude_control_difference",
        BORROWED,
    ),
    Question(
        "Does an edit overrule what it contradicts from the other side?",
        "reverse",
        (
            ("second object is the greedy answer", "e2_exact"),
            SIDES,
            ("contradicted fact's probability lost", "conflict_magnitude"),
        ),
        (OVERRULED,),
        "The contradicted fact's loss",
        "conflict_magnitude_control_difference",
        BORROWED,
    ),
    Question(
        "And what it contradicts through a chain of two facts?",
        "composite",
        (
            SIDES,
            ("contradicted fact's probability lost", "conflict_magnitude"),
            ("tied fact's probability lost", "tied_fact_damage"),
        ),
        (OVERRULED,),
        "The loss of the tied fact, which neither edit touches,",
        "tied_fact_damage_same_difference",
        "of other facts of the same subject",
    ),
    *(
        Question(
            f"Does an edit that is undone leave traces? ({words})",
            dataset,
            (
                ("each edit's object likelier than the one replaced", "success_released"),
                ("distortion (100 × nats)", "distortion"),
                ("other objects less likely than before", "ignore_rate"),
            ),
            (("Of the other true objects, {} are less likely than before (chance: half).", "ignore_rate"),),
            "The ignore rate",
            "ignore_rate_random_difference",
            "after a random change of equal size",
        )
        for dataset, words in (("round_easy", "easy"), ("round_hard", "hard"))
    ),
)  # fmt: skip


def found(
    summary: pd.DataFrame, model: str, comparisons: pd.DataFrame | None = None, level: float = LEVEL
) -> list[Finding]:
    """The findings about one model's runs, over all cases and the lowest seed; none without a value.

    `comparisons` has COMPARISONS: with it a difference between methods is said to be one only where its
    corrected test finds it, without it where their intervals are apart. A method without any value is among
    the editors all the same. `level` is that of the intervals.
    """
    asked = summary[summary["model"] == model]
    rows = first_seed(asked[asked["n"] > 0])
    findings = []
    for question in QUESTIONS:
        answers = rows[rows["dataset"] == question.dataset]
        by_metric = {name: part for name, part in answers.groupby("metric", sort=False)}
        shown = [(words, name) for words, name in question.rows if name in by_metric]
        if not shown:
            continue
        said = [
            _range(sentence, by_metric[name], name, comparisons, level)
            for sentence, name in question.sayings
            if name in by_metric
        ]
        if question.difference in by_metric:
            said.append(_beyond(by_metric[question.difference], question))
        values = [_by_editor(by_metric[name], name) for _, name in shown]
        everyone = dict.fromkeys(asked.loc[asked["dataset"] == question.dataset, "editor"])
        editors = _best_first(everyone, by_metric[shown[0][1]], shown[0][1])
        table = tuple((editor, tuple(of.get(editor) for of in values)) for editor in editors)
        columns = tuple((words, metric(name).about) for words, name in shown)
        counts = _counts(pd.concat([by_metric[name] for _, name in shown]))
        findings.append(Finding(question.text, tuple(said), columns, table, counts))
    return findings


def _by_editor(rows: pd.DataFrame, name: str) -> dict[str, Value]:
    return {
        row.editor: Value(rounded(row.value, name), between(row.low, row.high, name))
        for row in rows.itertuples()
    }


def _best_first(editors: Iterable[str], rows: pd.DataFrame, name: str) -> list[str]:
    """Sort editors by a metric's values, those without one last; in the run's order where nothing is best."""
    sign = {"up": -1, "down": 1}.get(metric(name).better, 0)
    values = dict(zip(rows["editor"], rows["value"], strict=True))
    return sorted(editors, key=lambda editor: sign * values[editor] if editor in values else math.inf)


def _counts(rows: pd.DataFrame) -> str:
    """Number of cases behind the rows, and of independent cases that these are worth."""
    low, high = rows["n_effective"].min(), rows["n_effective"].max()
    worth = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
    return f"{_span(rows['n'], 'case')} in {_span(rows['clusters'], 'cluster')}, worth {worth} independent"


def _span(values: pd.Series, noun: str) -> str:
    low, high = values.min(), values.max()
    return f"{low}{'' if low == high else f' to {high}'} {noun}{'' if high == 1 else 's'}"


def _range(
    sentence: str, rows: pd.DataFrame, name: str, comparisons: pd.DataFrame | None, level: float
) -> str:
    """`sentence` with the lowest and the highest value and who has them, or with the one value of all."""
    least, most = rows.iloc[rows["value"].argmin()], rows.iloc[rows["value"].argmax()]
    low, high = rounded(least["value"], name), rounded(most["value"], name)
    if low == high:
        interval = between(rows["low"].min(), rows["high"].max(), name)
        who = "" if len(rows) == 1 else ", whatever the method"
        return (
            f"{sentence.replace('{}', low).removesuffix('.')}{who} ({100 * level:g} % interval {interval})."
        )
    ends = [
        f"{value} ({row['editor']}; {between(row['low'], row['high'], name)})"
        for value, row in ((low, least), (high, most))
    ]
    said = sentence.replace("{}", " to ".join(ends))
    return f"{said} {_apart(least, most, comparisons)}".rstrip()


def _apart(least: pd.Series, most: pd.Series, comparisons: pd.DataFrame | None) -> str:
    """A sentence on whether two rows of SUMMARY differ by more than chance, as far as that was tested."""
    key = ["model", "dataset", "metric", "subset"]
    if comparisons is not None:
        same = (comparisons[key] == most[key]).all(axis=1)
        pairs = zip(comparisons["editor"], comparisons["other"], strict=True)
        asked = {least["editor"], most["editor"]}
        both = np.array([{editor, other} == asked for editor, other in pairs], dtype=bool)
        tested = comparisons[same & both].dropna(subset="p_adjusted")
        if len(tested):
            row = tested.loc[tested["p_adjusted"].idxmax()]  # of all families that it belongs to
            p = "below 0.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}"
            explains = "does not explain" if row["significant"] else "could explain"
            said = f"Chance alone {explains} the difference between"
            if row["seeds"] == 1:
                return f"{said} the two (corrected p {p})."
            ends = [
                f"{rounded(row[value], most['metric'])} ({row[who]})"
                for value, who in (("value", "editor"), ("other_value", "other"))
            ]
            return f"{said} their means over {row['seeds']} seeds, {' and '.join(ends)} (corrected p {p})."
    return "" if least["high"] < most["low"] else "These intervals overlap."


def _beyond(rows: pd.DataFrame, question: Question) -> str:
    """A sentence naming the editors that differ from their control by more than chance allows."""
    more, less = rows["low"] > 0, rows["high"] < 0
    parts = [
        (words, list(rows.loc[chosen, "editor"]))
        for words, chosen in (
            ("exceeds {} for", more),
            ("is below {} for", less),
            ("may equal {} for", ~more & ~less),
        )
        if chosen.any()
    ]
    said = [
        f"{words.replace('{}', f'that {question.control}' if i == 0 else 'it')} {_who(editors, len(rows))}"
        for i, (words, editors) in enumerate(parts)
    ]
    return f"{question.what} {'; it '.join(said)}."


def _who(editors: Sequence[str], of: int) -> str:
    """The names of editors, or their number where they are many."""
    if len(editors) == of > 1:
        return "every method"
    return listed(editors) if len(editors) <= NAMED else f"{len(editors)} of {of} methods"


NAMED = 5
"""Methods that a sentence names one by one."""


def level_of(config: Mapping[str, Any]) -> float:
    """The level of a run's intervals."""
    return config.get("statistics", {}).get("level", LEVEL)


FEW = 30
"""Fewer independent cases than this leave an interval of a rate some 36 points wide at one half."""


def certainty(
    summary: pd.DataFrame, runs: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> list[str]:
    """Limitations of the findings, the most serious first."""
    models, seeds, orders = ({run[key] for run in runs if key in run} for key in ("model", "seed", "order"))
    lines = []
    if config.get("kgs", {}).get(config.get("kg"), {}).get("source") == "generated":
        lines.append(
            "The graph is generated and the model was made for it. The run shows that the measurements work "
            "and how these methods behave here; it is no evidence about large models."
        )
    if len(models) == 1:
        lines.append("One model was edited: nothing here says how another would behave.")
    if len(seeds) == 1:
        lines.append("One seed was run: intervals are over cases and leave out what a repeat would change.")
    if len(orders) == 1:
        lines.append("Edits were made in one order: intervals leave out what another order would change.")
    rows = first_seed(summary[summary["n"] > 0])
    asked = {(question.dataset, name) for question in QUESTIONS for _, name in question.rows}
    pairs = pd.Series(list(zip(rows["dataset"], rows["metric"], strict=True)), index=rows.index, dtype=object)
    rows = rows[pairs.isin(asked)]
    if len(rows):
        few = int((rows["n_effective"] < FEW).sum())
        least = f"the least is {rows['n_effective'].min():.0f}"
        lines.append(
            f"Intervals are {100 * level_of(config):g} %, each on its own: among many, some miss. Cases that "
            "share entities count "
            f"together; {few} of the {len(rows)} values above rest on fewer than {FEW} independent cases "
            f"({least})."
        )
    return lines
