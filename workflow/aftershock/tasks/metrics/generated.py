"""Scores of one item whose output is a text, or of a text that is read whole."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from aftershock.tasks.agreement import f1
from aftershock.tasks.answers import forms, numbers_in, parse
from aftershock.tasks.instructions import followed
from aftershock.tasks.metrics.outcome import Outcome, Score

UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of scripts in which no space ends a word: Thai, Lao, Burmese, Khmer, Chinese, Japanese, Korean."""


def score_text(
    outcome: Outcome, how: Mapping[str, Any], value: Callable[[str, Outcome, Mapping[str, Any]], float]
) -> Score:
    found = parse(outcome.text, how)
    gold = outcome.answers[0] if outcome.answers else ""
    score = 0.0 if found is None else float(value(found, outcome, how))
    return Score(score, found is not None, found or "", gold)


def classified(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score 1 for an accepted answer; as classes, prediction and answer are in the form that is compared."""
    score, form = score_text(outcome, how, equal), forms(how["form"])
    gold = form(score.gold)
    return replace(score, prediction=gold if score.value else form(score.prediction), gold=gold)


def equal(found: str, outcome: Outcome, how: Mapping[str, Any]) -> float:
    form = forms(how["form"])
    return float(form(found) in {form(answer) for answer in outcome.answers})


def best(found: str, outcome: Outcome, how: Mapping[str, Any], agreement: Callable[..., float]) -> float:
    return max((agreement(found, answer) for answer in outcome.answers), default=0.0)


def contains(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score 1 where an answer stands anywhere in the text, parsed or not: as its words with `form: words`,
    and with `form: number` as one of the text's numbers.
    """
    form = forms(how["form"])
    if how["form"] == "number":
        value = not numbers_in(outcome.text).isdisjoint(map(form, outcome.answers))
    else:
        text, stands = form(outcome.text), _words_in if how["form"] == "words" else _in
        value = any(stands(form(answer), text) for answer in outcome.answers)
    found = parse(outcome.text, how)
    return Score(float(value), found is not None, found or "", outcome.answers[0] if outcome.answers else "")


def _in(answer: str, text: str) -> bool:
    return answer in text


def _words_in(answer: str, text: str) -> bool:
    """True if an answer stands in a text from the beginning of a word to the end of one."""
    before = "" if UNSPACED.match(answer[:1]) else r"(?<!\w)"
    after = "" if UNSPACED.match(answer[-1:]) else r"(?!\w)"
    return re.search(before + re.escape(answer) + after, text) is not None


def entities(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score the entities of a list "KIND: name; KIND: name" as a whole: kind and name have to be right."""
    text = parse(outcome.text, how)
    form = forms(how["form"])
    found = Counter(_entities((text or "").split(";"), form))
    wanted = Counter(_entities(outcome.answers, form))
    hits = (found & wanted).total()
    parsed = bool(found) or form((text or "").rstrip(".")) == form("none")
    value = f1(hits, found.total(), wanted.total()) if parsed else 0.0
    gold = "; ".join(outcome.answers) or "none"
    return Score(value, parsed, text or "", gold, hits, found.total(), wanted.total())


def _entities(parts: Iterable[str], form: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Yield kind and name of each entity that has both."""
    for part in parts:
        kind, _, name = part.partition(":")
        if kind.strip() and name.strip():
            yield form(kind), form(" ".join(name.split()))


def instructions(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score 1 where every instruction of an item is followed; those that are add up in `hits` of `found`."""
    kept = followed(outcome.text, outcome.answers[0])
    given, text = float(all(kept)), outcome.text.strip()
    return Score(given, bool(text), outcome.text, hits=float(sum(kept)), found=float(len(kept)))


# --- texts scored whole -------------------------------------------------------------------------------------


def nll(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    total, tokens = -outcome.logprobs[0], outcome.n_tokens[0]
    return Score(total / tokens, not math.isnan(total), hits=total, found=tokens)


def bits(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    total, size = -outcome.logprobs[0] / math.log(2), len(outcome.answers[0].encode())
    return Score(total / size, not math.isnan(total), hits=total, found=size)
