"""What a run found and what it missed, in plain words, from its SUMMARY rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from aftershock.metrics.catalogue import find_metric, metric
from aftershock.metrics.layouts import ALL
from aftershock.metrics.scales import NATS

ENOUGH_KNOWN = 0.3
"""Below this share of known facts a table shows that the files can be run, and nothing about editing."""

DATASETS = {
    "coverage": "coverage",
    "reverse": "reverse",
    "composite": "composite",
    "round_easy": "round, easy",
    "round_hard": "round, hard",
}
RECALL, UNEDITED = "recall", "unedited model"
TEMPLATES = {
    "seen": "recall on templates seen in training",
    "held_out_fact": "recall on templates held out of the fact's training text",
    "held_out_relation": "recall on templates never seen with the relation",
}


@dataclass(frozen=True)
class Verdict:
    """A bar set in the configuration and what one editor reached."""

    who: str
    dataset: str
    title: str
    at_least: float
    value: float
    low: float
    high: float
    n: int

    @property
    def met(self) -> bool:
        """Whether the value itself reaches the bar; a missing value does not."""
        return bool(self.value >= self.at_least)

    @property
    def what(self) -> str:
        """The metric in words."""
        return self.title if self.dataset == RECALL else f"{self.title} ({DATASETS[self.dataset]})"


@dataclass(frozen=True)
class Finding:
    """A question and the answer of this run: sentences, and rows of words with a value per editor."""

    question: str
    sentences: tuple[str, ...]
    editors: tuple[str, ...]
    rows: tuple[tuple[str, dict[str, str]], ...]


def percent(value: float) -> str:
    """A share as text, such as 91.5 %; no line breaks in it."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%".replace("-", "−")


def shown(value: float, name: str) -> str:
    """The value of a metric as text, times 100 unless it has another unit."""
    entry = metric(name)
    if entry.scale == NATS:
        return f"{100 * value:.2f}".replace("-", "−")
    return percent(value) if entry.percent else f"{value:.2f}".replace("-", "−")


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b` or `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def verdicts(
    summary: pd.DataFrame, recall: pd.DataFrame, bars: Sequence[Mapping], models: Sequence[str]
) -> list[Verdict]:
    """Every bar for each of its editors and models, over all cases and the lowest seed.

    A bar on the dataset `recall` names a group of templates and asks `recall` (RECALL_SUMMARY) about it.
    """
    key = ["model", "dataset", "editor", "metric"]
    of_model = recall[recall["relation"] == ALL].rename(columns={"group": "metric"})
    of_model = of_model.assign(dataset=RECALL, editor=UNEDITED)
    figures = ["value", "low", "high", "n"]
    rows = (
        pd.concat([_first_seed(summary)[key + figures], of_model[key + figures]]).set_index(key).sort_index()
    )
    nothing = pd.Series({"value": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0})
    results = []
    for bar, model in product(bars, models):
        title = _title(bar)
        for editor in bar.get("editors", [UNEDITED]):
            where = (model, bar["dataset"], editor, bar["metric"])
            reached = rows.loc[where] if where in rows.index else nothing
            who = model if editor == UNEDITED else _named(editor, model, len(models))
            results.append(Verdict(who, bar["dataset"], title, bar["at_least"], **reached.to_dict()))
    return results


def _title(bar: Mapping[str, Any]) -> str:
    """What a bar is about. A misspelt metric is only said here: it must not end a run of hours."""
    entry = find_metric(bar["metric"])
    title = TEMPLATES.get(bar["metric"]) if bar["dataset"] == RECALL else entry and entry.title
    return title or f"{bar['metric']}, which is no metric here,"


def missed(summary: pd.DataFrame, bars: Sequence[Verdict], runs: Sequence[Mapping]) -> list[str]:
    """Everything a reader has to know before trusting a table, the gravest first."""
    rows = _first_seed(summary)
    return [*_unknown(rows), *_empty(rows, runs), *_failed(rows), *_below(bars)]


def _unknown(rows: pd.DataFrame) -> list[str]:
    known = rows[(rows["metric"] == "known") & (rows["value"] < ENOUGH_KNOWN)]
    return [
        f"Format check only: {model} knows {percent(part['value'].iloc[0])} of what the {DATASETS[dataset]} "
        f"cases are built on, less than the {percent(ENOUGH_KNOWN)} that a finding needs. Its rows show that "
        "the files can be run; they say nothing about editing."
        for (model, dataset), part in known.groupby(["model", "dataset"], sort=False)
    ]


def _empty(rows: pd.DataFrame, runs: Sequence[Mapping]) -> list[str]:
    found = set(zip(rows["model"], rows["dataset"], rows["editor"], strict=True))
    lines = []
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        empty = {
            run["editor"]: None
            for run in runs
            if run["dataset"] == dataset and (run["model"], dataset, run["editor"]) not in found
        }
        if empty:
            lines.append(f"No cases: {DATASETS[dataset]} has no test case for {listed(list(empty))}.")
    return lines


def _failed(rows: pd.DataFrame) -> list[str]:
    broken = rows[(rows["metric"] == "edit_failed") & (rows["value"] > 0)]
    models = rows["model"].nunique()
    return [
        f"{_named(row.editor, row.model, models)} broke off in {percent(row.value)} of the {row.n} "
        f"{DATASETS[row.dataset]} cases"
        f"{' and has no value there' if row.value == 1 else '; its other values leave these out'}."
        for row in broken.itertuples()
    ]


def _named(editor: str, model: str, models: int) -> str:
    """An editor, with its model where there are several."""
    return editor if models == 1 else f"{editor} on {model}"


def _below(bars: Sequence[Verdict]) -> list[str]:
    lines = []
    for bar in bars:
        if bar.met:
            continue
        reached = "has no value"
        if bar.n:
            interval = f"{percent(bar.low)} to {percent(bar.high)}, n = {bar.n:.0f}"
            reached = f"reaches {percent(bar.value)} ({interval})"
        lines.append(f"{bar.who}: {bar.what} {reached}; the bar is {percent(bar.at_least)}.")
    return lines


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
    rows = _first_seed(summary[(summary["model"] == model) & (summary["n"] > 0)])
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


def rounded(value: float, name: str) -> str:
    """The value of a metric for a sentence: whole percentages."""
    if metric(name).scale == NATS:
        return shown(value, name)
    return f"{100 * value:.0f}\N{NO-BREAK SPACE}%".replace("-", "−")


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


def _first_seed(summary: pd.DataFrame) -> pd.DataFrame:
    rows = summary[summary["subset"] == "all"]
    return rows[rows["seed"] == rows["seed"].min()]
