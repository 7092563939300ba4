"""Metrics of tasks by name: their value for one item, and their value for many.

A metric of one item is a Score. Of many it is the mean of values unless `combine` says otherwise; what this
needs beside values (counts, classes) is in the Score too, so that items can be drawn again, paired and left
out without asking a model anything.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from aftershock.tasks.answers import forms, parse
from aftershock.tasks.instructions import followed
from aftershock.tasks.text_metrics import f1, plain_words, rouge_l, rouge_n, rouge_sets, token_f1


@dataclass(frozen=True)
class Outcome:
    """One item and what the model said to it."""

    prompt: str
    group: str
    choices: Sequence[str]
    gold: int | None
    answers: Sequence[str]
    logprobs: Sequence[float]
    n_tokens: Sequence[float]
    text: str
    finished: bool


@dataclass(frozen=True)
class Score:
    """A metric's value for one item."""

    value: float
    parsed: bool = True
    """The output has an answer in it, and log-probabilities are numbers."""
    prediction: str = ""
    gold: str = ""
    hits: float = math.nan
    """With the next two: what many items add up, as right, found and wanted entities."""
    found: float = math.nan
    wanted: float = math.nan


# --- choices ------------------------------------------------------------------------------------------------

LENGTHS: dict[str, Callable[[Outcome], Sequence[float]]] = {
    "": lambda outcome: [1.0] * len(outcome.choices),
    "_per_token": lambda outcome: outcome.n_tokens,
    "_per_character": lambda outcome: [len(choice.strip()) for choice in outcome.choices],
}
"""Divisors of the log-probabilities of choices, by the suffix of a metric's name."""


def choice_scores(outcome: Outcome, per: str) -> np.ndarray | None:
    """Return the choices' log-probabilities, per token or character; None where one is no number."""
    scores = np.asarray(outcome.logprobs, float) / np.asarray(LENGTHS[per](outcome), float)
    if len(scores) != len(outcome.choices):
        raise ValueError(f"{len(scores)} log-probabilities of {len(outcome.choices)} choices")
    return None if np.isnan(scores).any() else scores


def _choice(outcome: Outcome, per: str, value: Callable[[np.ndarray, Outcome], float]) -> Score:
    gold = outcome.choices[outcome.gold or 0].strip()
    scores = choice_scores(outcome, per)
    if scores is None:
        return Score(0.0, False, "", gold)
    return Score(float(value(scores, outcome)), True, outcome.choices[int(scores.argmax())].strip(), gold)


def _correct(scores: np.ndarray, outcome: Outcome) -> float:
    return float(scores.argmax() == outcome.gold)


def _rank(scores: np.ndarray, outcome: Outcome) -> int:
    """Return the place of the right choice among the scores; of equal ones it is the last."""
    return int((scores >= scores[outcome.gold]).sum())


def _reciprocal_rank(scores: np.ndarray, outcome: Outcome) -> float:
    return 1 / _rank(scores, outcome)


def _within(scores: np.ndarray, outcome: Outcome, k: int) -> float:
    return float(_rank(scores, outcome) <= k)


def _mass_of_true(scores: np.ndarray, outcome: Outcome) -> float:
    """Return the share of the probability that is on choices that are among the answers."""
    share = np.exp(scores - scores.max())
    true = [choice in outcome.answers for choice in outcome.choices]
    return float(share[true].sum() / share.sum())


def _log_odds(outcome: Outcome) -> Score:
    """Return by how much the second of two choices is likelier; `hits` is 1 where it is the right one."""
    if len(outcome.choices) != 2:
        raise ValueError(f"an item has {len(outcome.choices)} choices; the area under the curve is of two")
    score = _choice(outcome, "", lambda scores, _: scores[1] - scores[0])
    return Score(score.value, score.parsed, score.prediction, score.gold, hits=float(outcome.gold or 0))


# --- generated texts ----------------------------------------------------------------------------------------


def _generated(
    outcome: Outcome, how: Mapping[str, Any], value: Callable[[str, Outcome, Mapping[str, Any]], float]
) -> Score:
    found = parse(outcome.text, how)
    gold = outcome.answers[0] if outcome.answers else ""
    score = 0.0 if found is None else float(value(found, outcome, how))
    return Score(score, found is not None, found or "", gold)


def _equal(found: str, outcome: Outcome, how: Mapping[str, Any]) -> float:
    form = forms(how["form"])
    return float(form(found) in {form(answer) for answer in outcome.answers})


def _best(found: str, outcome: Outcome, how: Mapping[str, Any], agreement: Callable[..., float]) -> float:
    return max((agreement(found, answer) for answer in outcome.answers), default=0.0)


def _contains(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score 1 where an answer stands anywhere in the text, parsed or not."""
    form = forms(how["form"])
    text = form(outcome.text)
    value = any(form(answer) in text for answer in outcome.answers)
    found = parse(outcome.text, how)
    return Score(float(value), found is not None, found or "", outcome.answers[0] if outcome.answers else "")


def _entities(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score the entities of a list "KIND: name; KIND: name" as a whole: kind and name have to be right."""
    text = parse(outcome.text, how)
    form = forms(how["form"])
    parts = [] if text is None else text.split(";")
    found = Counter(form(part) for part in parts if ":" in part)
    wanted = Counter(form(answer) for answer in outcome.answers)
    hits = (found & wanted).total()
    parsed = bool(found) or form(text or "") == form("none")
    value = f1(hits, found.total(), wanted.total())
    gold = "; ".join(outcome.answers) or "none"
    return Score(value, parsed, text or "", gold, hits, found.total(), wanted.total())


def _instructions(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score 1 where every instruction of an item is followed; those that are add up in `hits` of `found`."""
    kept = followed(outcome.text, outcome.answers[0])
    given, text = float(all(kept)), outcome.text.strip()
    return Score(given, bool(text), outcome.text, hits=float(sum(kept)), found=float(len(kept)))


# --- as released --------------------------------------------------------------------------------------------


def _entities_released(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score substrings: entities of one kind that stand anywhere in the text.

    Without any, an empty output counts as one found of one; a text counts as one missed among Miscellaneous,
    and not at all among the other kinds, of which the code compares the entities with themselves.
    """
    text, entities = outcome.text, outcome.answers
    hits, wanted = sum(entity in text for entity in entities), len(entities)
    if not entities and not text:
        hits, wanted = 1, 1
    elif not entities and outcome.group == "Miscellaneous":
        wanted = 1
    value = hits / wanted if wanted else math.nan
    return Score(value, bool(text.strip()), text.strip(), "; ".join(entities), hits, math.nan, wanted)


def _rouge_released(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score a summary as Study B does; the text that ends by itself has an end-of-document token there."""
    text = outcome.text.split("DR:")[-1] + ("<|endoftext|>" if outcome.finished else "")
    return Score(rouge_sets(text, outcome.answers[0]), bool(text.strip()), outcome.text, outcome.answers[0])


def _spans_released(outcomes: Sequence[Outcome], how: Mapping[str, Any]) -> list[Score]:
    """Score answers as Study B does: every span of the output is compared, in the order of the items.

    An item counts as often as single words equal an answer. After the first span of several words that did,
    in whatever item, only spans from the first word are looked at: a flag is never reset. The prompt is part
    of what is compared, unless the output has "Answer:" in it.
    """
    scores, flag = [], False
    for outcome in outcomes:
        text = (outcome.prompt + outcome.text).split("Answer:")[-1].replace("\n", " ")
        words = plain_words(text).split(" ")
        wanted = {plain_words(answer) for answer in outcome.answers}
        count, flag = _count_spans(words, wanted, flag)
        scores.append(Score(float(count), bool(outcome.text.strip()), outcome.text, outcome.answers[0]))
    return scores


def _count_spans(words: Sequence[str], wanted: set[str], flag: bool) -> tuple[int, bool]:
    if words[0] in wanted or words[-1] in wanted:
        return 1, flag
    count = 0
    for start in range(len(words) - 1):
        if words[start] in wanted:
            count += 1
            continue
        if any(" ".join(words[start : end + 1]) in wanted for end in range(start + 1, len(words))):
            count, flag = count + 1, True
        if flag:
            break
    return count, flag


# --- texts scored whole -------------------------------------------------------------------------------------


def _nll(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    total, tokens = -outcome.logprobs[0], outcome.n_tokens[0]
    return Score(total / tokens, not math.isnan(total), hits=total, found=tokens)


def _bits(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    total, size = -outcome.logprobs[0] / math.log(2), len(outcome.answers[0].encode())
    return Score(total / size, not math.isnan(total), hits=total, found=size)


# --- many items ---------------------------------------------------------------------------------------------


def _mean(scores: pd.DataFrame) -> float:
    return float(scores["value"].mean())


def _mean_of_parsed(scores: pd.DataFrame) -> float:
    return float(scores.loc[scores["parsed"], "value"].mean())


def _mean_of_classes(scores: pd.DataFrame) -> float:
    return float(scores.groupby("gold")["value"].mean().mean())


def _area(scores: pd.DataFrame) -> float:
    """Return the probability that an item of the second class is above one of the first, ties as a half."""
    right = scores["hits"].to_numpy() > 0
    ranks = scores["value"].rank().to_numpy()
    n, m = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - n * (n + 1) / 2) / (n * m)) if n and m else math.nan


def _weighted_f1(scores: pd.DataFrame) -> float:
    """Return the mean of the classes' F1, weighted by how many items have the class."""
    predicted, gold = scores["prediction"].where(scores["parsed"], ""), scores["gold"]
    total = 0.0
    for name, wanted in gold.value_counts().items():
        hits = ((predicted == name) & (gold == name)).sum()
        total += wanted * f1(hits, (predicted == name).sum(), wanted)
    return float(total / len(scores)) if len(scores) else math.nan


def _micro_f1(scores: pd.DataFrame) -> float:
    return float(f1(scores["hits"].sum(), scores["found"].sum(), scores["wanted"].sum()))


def _recall_of_groups(scores: pd.DataFrame) -> float:
    sums = scores.groupby("group")[["hits", "wanted"]].sum()
    return float((sums["hits"] / sums["wanted"].where(sums["wanted"] > 0)).mean())


def _per_found(scores: pd.DataFrame) -> float:
    return float(scores["hits"].sum() / scores["found"].sum())


def _perplexity(scores: pd.DataFrame) -> float:
    return float(np.exp(_per_found(scores)))


Scorer = Callable[[Sequence[Outcome], Mapping[str, Any]], list[Score]]
Combine = Callable[[pd.DataFrame], float]


@dataclass(frozen=True)
class TaskMetric:
    """A metric of one kind of task."""

    kind: str
    score: Scorer
    """Scores of all items of a task at one checkpoint, in the order of the items."""
    combine: Combine = _mean
    """Value of many items, from a table with the fields of Score and `group` as columns."""


def _each(function: Callable[..., Score], *arguments: Any, **settings: Any) -> Scorer:
    def score(outcomes: Sequence[Outcome], how: Mapping[str, Any]) -> list[Score]:
        return [function(outcome, how, *arguments, **settings) for outcome in outcomes]

    return score


def _of_choices(value: Callable[[np.ndarray, Outcome], float], per: str) -> Scorer:
    return lambda outcomes, how: [_choice(outcome, per, value) for outcome in outcomes]


def _choice_metrics() -> dict[str, TaskMetric]:
    found: dict[str, TaskMetric] = {}
    for per in LENGTHS:
        right = _of_choices(_correct, per)
        found |= {
            f"acc{per}": TaskMetric("choice", right),
            f"balanced_acc{per}": TaskMetric("choice", right, _mean_of_classes),
            f"weighted_f1{per}": TaskMetric("choice", right, _weighted_f1),
            f"mrr{per}": TaskMetric("choice", _of_choices(_reciprocal_rank, per)),
            f"recall_at_2{per}": TaskMetric("choice", _of_choices(partial(_within, k=2), per)),
        }
    found["mc2"] = TaskMetric("choice", _of_choices(_mass_of_true, ""))
    found["auc"] = TaskMetric("choice", lambda outcomes, how: [_log_odds(each) for each in outcomes], _area)
    return found


_EXACT = _each(_generated, _equal)

METRICS: dict[str, TaskMetric] = {
    **_choice_metrics(),
    "exact_match": TaskMetric("generate", _EXACT),
    "exact_match_of_parsed": TaskMetric("generate", _EXACT, _mean_of_parsed),
    "balanced_exact_match": TaskMetric("generate", _EXACT, _mean_of_classes),
    "weighted_f1_of_words": TaskMetric("generate", _EXACT, _weighted_f1),
    "f1": TaskMetric("generate", _each(_generated, partial(_best, agreement=token_f1))),
    "contains": TaskMetric("generate", _each(_contains)),
    "rouge1": TaskMetric("generate", _each(_generated, partial(_best, agreement=partial(rouge_n, n=1)))),
    "rouge2": TaskMetric("generate", _each(_generated, partial(_best, agreement=partial(rouge_n, n=2)))),
    "rougeL": TaskMetric("generate", _each(_generated, partial(_best, agreement=rouge_l))),
    "entity_f1": TaskMetric("generate", _each(_entities), _micro_f1),
    "instructions_followed": TaskMetric("generate", _each(_instructions)),
    "instructions_followed_each": TaskMetric("generate", _each(_instructions), _per_found),
    "entity_recall_released": TaskMetric("generate", _each(_entities_released), _recall_of_groups),
    "rouge_released": TaskMetric("generate", _each(_rouge_released)),
    "spans_released": TaskMetric("generate", _spans_released),
    "perplexity": TaskMetric("perplexity", _each(_nll), _perplexity),
    "nll": TaskMetric("perplexity", _each(_nll), _per_found),
    "bits_per_byte": TaskMetric("perplexity", _each(_bits), _per_found),
}
"""The metrics that a task's file may name."""
