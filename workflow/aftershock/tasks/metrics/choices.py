"""Scores of one item with choices, from the choices' log-probabilities."""

from collections.abc import Callable, Sequence

import numpy as np

from aftershock.tasks.metrics.outcome import Outcome, Score

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


def score_choice(outcome: Outcome, per: str, value: Callable[[np.ndarray, Outcome], float]) -> Score:
    gold = outcome.choices[outcome.gold or 0].strip()
    scores = choice_scores(outcome, per)
    if scores is None:
        return Score(0.0, False, "", gold)
    return Score(float(value(scores, outcome)), True, outcome.choices[int(scores.argmax())].strip(), gold)


def correct(scores: np.ndarray, outcome: Outcome) -> float:
    return float(scores.argmax() == outcome.gold)


def _rank(scores: np.ndarray, outcome: Outcome) -> int:
    """Return the place of the right choice among the scores; of equal ones it is the last."""
    return int((scores >= scores[outcome.gold]).sum())


def reciprocal_rank(scores: np.ndarray, outcome: Outcome) -> float:
    return 1 / _rank(scores, outcome)


def within(scores: np.ndarray, outcome: Outcome, k: int) -> float:
    return float(_rank(scores, outcome) <= k)


def mass_of_true(scores: np.ndarray, outcome: Outcome) -> float:
    """Return the share of the probability that is on choices that are among the answers."""
    share = np.exp(scores - scores.max())
    true = [choice in outcome.answers for choice in outcome.choices]
    return float(share[true].sum() / share.sum())


def log_odds(outcome: Outcome) -> Score:
    """Return by how much the second of two choices is likelier; `hits` is 1 where it is the right one."""
    if len(outcome.choices) != 2:
        raise ValueError(f"an item has {len(outcome.choices)} choices; the area under the curve is of two")
    score = score_choice(outcome, "", lambda scores, _: scores[1] - scores[0])
    return Score(score.value, score.parsed, score.prediction, score.gold, hits=float(outcome.gold or 0))
