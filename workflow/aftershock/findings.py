"""What a run found, in plain words, from its SUMMARY rows."""

from dataclasses import dataclass

import pandas as pd

from aftershock.verdicts import first_seed
from aftershock.words import listed, rounded


@dataclass(frozen=True)
class Finding:
    """A question and the answer of this run: sentences, and rows of words with a value per editor."""

    question: str
    sentences: tuple[str, ...]
    editors: tuple[str, ...]
    rows: tuple[tuple[str, dict[str, str]], ...]


@dataclass(frozen=True)
class Question:
    """What a dataset answers.

    `rows` are metrics in plain words, those with a sentence first said as a range over methods; `difference`
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


def found(summary: pd.DataFrame, model: str) -> list[Finding]:
    """The answers of one model's runs, over all cases and the lowest seed; none where there is no value."""
    rows = first_seed(summary[(summary["model"] == model) & (summary["n"] > 0)])
    findings = []
    for question in QUESTIONS:
        answers = rows[rows["dataset"] == question.dataset]
        by_metric = {name: part for name, part in answers.groupby("metric", sort=False)}
        table = [
            (words, _by_editor(by_metric[name], name)) for words, name in question.rows if name in by_metric
        ]
        if not table:
            continue
        said = [
            _range(sentence, by_metric[name], name)
            for sentence, name in question.sayings
            if name in by_metric
        ]
        if question.difference in by_metric:
            said.append(_beyond(by_metric[question.difference], question))
        editors = list(dict.fromkeys(editor for _, values in table for editor in values))
        findings.append(Finding(question.text, tuple(said), tuple(editors), tuple(table)))
    return findings


def _by_editor(rows: pd.DataFrame, name: str) -> dict[str, str]:
    return {row.editor: rounded(row.value, name) for row in rows.itertuples()}


def _range(sentence: str, rows: pd.DataFrame, name: str) -> str:
    """`sentence` with the lowest and the highest value and their editors, or with the one value of all."""
    least, most = rows.iloc[rows["value"].argmin()], rows.iloc[rows["value"].argmax()]
    low, high = rounded(least["value"], name), rounded(most["value"], name)
    if low == high:
        said = sentence.replace("{}", low)
        return said if len(rows) == 1 else f"{said.removesuffix('.')}, whatever the method."
    return sentence.replace("{}", f"{low} ({least['editor']}) to {high} ({most['editor']})")


def _beyond(rows: pd.DataFrame, question: Question) -> str:
    """Which editors differ from their control by more than chance allows."""
    more, less = rows["low"] > 0, rows["high"] < 0
    parts = [
        (words, list(rows.loc[chosen, "editor"]))
        for words, chosen in (
            ("exceeds {} for", more),
            ("is below {} for", less),
            ("cannot be told from {} for", ~more & ~less),
        )
        if chosen.any()
    ]
    said = [
        f"{words.replace('{}', f'that {question.control}' if i == 0 else 'it')} {listed(editors)}"
        for i, (words, editors) in enumerate(parts)
    ]
    return f"{question.what} {'; it '.join(said)}."
