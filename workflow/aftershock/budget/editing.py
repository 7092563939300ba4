"""Batches of edited cases, and the averages that every estimate of editing uses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aftershock.budget.work import AVERAGE, Room, Sizes, Texts, Work
from aftershock.editors.contract import layers_of

STEPS_MADE = 0.55
"""Share of its steps after which fine-tuning's loss is low enough (0.46 to 0.69 in the embedded study)."""
TOUCHED_BY_ADAM = 16  # times that each trained weight, or what Adam keeps of it, is read or written in a step
PADDED = 1.2  # in batches of 6 edits of different lengths
STEPS = 25  # steps of a method whose settings have none
VALUE_TOKENS, DENSE_TOKENS, GRADIENT_TOKENS = 1024, 512, 4096  # tokens that a CPU processes at a time


@dataclass(frozen=True)
class Editing:
    """Cases, each with some requests, that are edited in one batch."""

    sizes: Sizes
    room: Room
    settings: Any
    training: Any
    """MendTraining of the model's hypernetwork."""
    cases: float
    requests: float = 1.0
    texts: Texts = AVERAGE
    steps_made: float = STEPS_MADE


def no_tokens(e: Editing) -> float:
    """Return 0: for methods that leave prompts as they are."""
    return 0.0


@dataclass(frozen=True)
class Kind:
    """Cost functions of a kind of method: work of many cases, and bytes of one."""

    work: Callable[[Editing], Work]
    bytes: Callable[[Editing], float]
    delta: bool = False
    """True where a case's change is as large as the matrices that it changes."""
    before: Callable[[Editing], float] = no_tokens
    """Tokens that prompts have more after an edit."""


def trained_weights(settings: Any, sizes: Sizes) -> int:
    """Weights that fine-tuning with `settings` changes: an MLP's last matrix in each layer, or all of it."""
    whole = getattr(settings, "parameters", None) == "layer"
    return len(layers_of(settings)) * (sizes.layer if whole else sizes.matrix)


def padding(e: Editing) -> float:
    """Ratio of padded to real tokens in a batch: its texts are as wide as the longest."""
    return PADDED if e.cases * e.requests > 1 else 1.0


def context_tokens(settings: Any) -> list[float]:
    """Number of tokens before the prompt in each context that it is read in."""
    openings = max(1, len(settings.context_openings))
    return [
        0.0,
        *(tokens + 1.0 for tokens, count in settings.context_lengths for _ in range(count * openings)),
    ]
