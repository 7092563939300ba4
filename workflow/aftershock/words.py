"""Wording of templates and values in the report."""

from collections.abc import Sequence

from aftershock.metrics.catalogue import metric
from aftershock.metrics.scales import NATS

PERCENT = "\N{NO-BREAK SPACE}%"
TEMPLATES = {
    "seen": "recall on templates seen in training",
    "held_out_fact": "recall on templates held out of the fact's training text",
    "held_out_relation": "recall on templates never seen with the relation",
}


def percent(value: float) -> str:
    """A share as text, such as 91.5 %; no line breaks in it."""
    return f"{100 * value:.1f}{PERCENT}".replace("-", "−")


def shown(value: float, name: str) -> str:
    """The value of a metric as text, times 100 unless it has another unit."""
    entry = metric(name)
    if entry.scale == NATS:
        return f"{100 * value:.2f}".replace("-", "−")
    return percent(value) if entry.percent else f"{value:.2f}".replace("-", "−")


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b` or `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def rounded(value: float, name: str) -> str:
    """The value of a metric for a sentence: whole percentages."""
    if metric(name).scale == NATS:
        return shown(value, name)
    return f"{round(100 * value)}{PERCENT}".replace("-", "−")


def between(low: float, high: float, name: str) -> str:
    """An interval for a sentence, such as 0 to 13 %."""
    ends = [rounded(end, name) for end in (low, high)]
    return f"{ends[0].removesuffix(PERCENT)} to {ends[1]}"
