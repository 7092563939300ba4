"""Scores of generated texts as the code of published studies computes them.

Study B's code keeps the end-of-document token as text, so that an output which the model ends at once is not
empty, and the last word of one that it ends is not that word.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aftershock.tasks.agreement import plain_words, rouge_sets
from aftershock.tasks.metrics.outcome import Outcome, Score

END = "<|endoftext|>"


def _said(outcome: Outcome) -> str:
    """Return an output with the end-of-document token of one that the model ended."""
    return outcome.text + (END if outcome.finished else "")


def entities_released(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score substrings: entities of one kind that stand anywhere in the text, up to another "Entity:" in it.

    Without any, an empty output counts as one found of one; a text counts as one missed among Miscellaneous,
    and not at all among the other kinds, of which the code compares the entities with themselves.
    """
    text, entities = _said(outcome).split("Entity:")[0], outcome.answers
    hits, wanted = sum(entity in text for entity in entities), len(entities)
    if not entities and not text:
        hits, wanted = 1, 1
    elif not entities and outcome.group == "Miscellaneous":
        wanted = 1
    value = hits / wanted if wanted else math.nan
    said = outcome.text.strip()
    return Score(value, bool(said), said, "; ".join(entities), hits, math.nan, wanted)


def rouge_released(outcome: Outcome, how: Mapping[str, Any]) -> Score:
    """Score a summary as Study B does."""
    text = _said(outcome).split("DR:")[-1]
    return Score(rouge_sets(text, outcome.answers[0]), bool(text.strip()), outcome.text, outcome.answers[0])


def spans_released(outcomes: Sequence[Outcome], how: Mapping[str, Any]) -> list[Score]:
    """Score answers as Study B does: every span of the output is compared, in the order of the items.

    An item counts as often as single words equal an answer. After the first span of several words that did,
    in whatever item, only spans from the first word are looked at: a flag is never reset. The prompt is part
    of what is compared, unless the output has "Answer:" in it.
    """
    scores, flag = [], False
    for outcome in outcomes:
        text = (outcome.prompt + _said(outcome)).split("Answer:")[-1].replace("\n", " ")
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
