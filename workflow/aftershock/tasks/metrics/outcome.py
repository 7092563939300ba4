"""One item with its output, and a metric's value for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


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
