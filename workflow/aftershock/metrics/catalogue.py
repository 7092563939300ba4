"""Definitions of all metrics, with variants of the defined ones."""

from dataclasses import replace
from functools import lru_cache

from aftershock.metrics.definitions import BASE
from aftershock.metrics.metric import Metric
from aftershock.metrics.scales import DIFFERENCE, NATS

__all__ = ["BY_NAME", "NATS", "SUFFIXES", "Metric", "find_metric", "metric"]

SUFFIXES = (
    (
        "_control_difference",
        ", minus control",
        "The value minus that of its control, case by case.",
        DIFFERENCE,
    ),
    ("_by_chance_difference", ", minus chance", "The value minus that by chance, case by case.", DIFFERENCE),
    (
        "_random_difference",
        ", minus random change",
        "The value minus that after a random change.",
        DIFFERENCE,
    ),
    (
        "_difference",
        ", tied minus control",
        "The tied fact's value minus this one, case by case.",
        DIFFERENCE,
    ),
    (
        "_given_e1",
        ", first edit worked",
        "Only for cases whose first edit made its object likelier.",
        None,
    ),
    ("_clamped", ", no less than -100 %", "No case counts for less than -100 %.", None),
    ("_change", ", change", "The value minus that in the unedited model, case by case.", DIFFERENCE),
    ("_before", ", unedited model", "The same in the unedited model.", None),
    ("_after_first", ", after the first edit", "The same after the first edit.", None),
    ("_tie", ", ties", "How often both sides of the comparison are exactly equal.", None),
    ("_known", ", known facts", "The same over the facts that the unedited model knows.", None),
    (
        "_held_out",
        ", held-out objects",
        "The same over the objects that the second edit was not given.",
        None,
    ),
    (
        "_random",
        ", random change",
        "The same after a random change of the weights as large as both edits, or behind as many unrelated "
        "statements where a method puts facts before prompts.",
        None,
    ),
    (
        "_control",
        ", control",
        "The same for the control: for conflict cases a second edit borrowed from another case, for round "
        "cases the true objects of another subject and relation.",
        None,
    ),
)
"""Endings, tried in this order, that make a variant of a metric, with the variant's scale where it has its
own.
"""


BY_NAME = {entry.name: entry for entry in BASE}


def metric(name: str) -> Metric:
    """The entry of `name`, made from its base where it ends in a suffix; ValueError for an unknown one."""
    entry = find_metric(name)
    if entry is None:
        raise ValueError(f"metric {name!r} is in no catalogue; describe it in metrics/catalogue.py")
    return entry


@lru_cache
def find_metric(name: str) -> Metric | None:
    """The entry of `name`, or None."""
    if name in BY_NAME:
        return BY_NAME[name]
    for ending, title, about, scale in SUFFIXES:
        base = find_metric(name.removesuffix(ending)) if name.endswith(ending) else None
        if base:
            variant = replace(base, name=name, title=base.title + title, about=f"{about} {base.about}")
            return replace(variant, scale=scale) if scale else variant
    return None
