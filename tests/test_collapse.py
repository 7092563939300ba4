"""Points of collapse on made-up courses of each kind, with ties, gaps, and sequences that end early."""

import pandas as pd
import pytest

import sequence_pages
from aftershock.metrics.abilities.abilities import abilities
from aftershock.metrics.abilities.collapse import (
    ABRUPT,
    GRADUAL,
    NONE,
    TOGETHER,
    UNCLEAR,
    UNMEASURED,
    classify,
    collapses,
    together,
)
from aftershock.metrics.abilities.collapse import _course as course_of
from aftershock.metrics.abilities.settings import Collapse
from aftershock.tables.abilities import COLLAPSES
from simulated_sequences import CHECKPOINTS, TASKS, broken, fading, sequenced

PLANNED = (0, 1, 5, 10, 20, 50, 100)
LIMITS = Collapse()
FADED = {0: 1, 1: 1, 5: 0.8, 10: 0.7, 20: 0.2}
GAP = {0: 1, 1: 1, 5: 1, 50: 0.1}


def found(kept: dict[int, float], half: float = 0.05, jumps: dict[int, float] | None = None) -> dict:
    """The class of a course whose intervals reach `half` to both sides."""
    rows = pd.DataFrame(
        {"retained": kept.values(), "retained_low": [x - half for x in kept.values()],
         "retained_high": [x + half for x in kept.values()]},
        index=list(kept),
    )  # fmt: skip
    return classify(course_of(rows, LIMITS.below, LIMITS.intact), PLANNED, jumps or {}, LIMITS)


@pytest.mark.parametrize(
    ("kept", "given", "expected"),
    [
        (dict.fromkeys(PLANNED, 1.0), {}, {"kind": NONE, "checkpoint": None}),
        (
            {0: 1, 1: 1, 5: 0.95, 10: 0.8, 20: 0.6, 50: 0.3, 100: 0.1},
            {},
            {"kind": GRADUAL, "checkpoint": 50, "before": 20},
        ),
        (
            {0: 1, 1: 1, 5: 1, 10: 0.95, 20: 0.1, 50: 0.0, 100: 0.0},
            {},
            {"kind": ABRUPT, "checkpoint": 20, "before": 10},
        ),
        ({0: 1, 1: 0.0}, {}, {"checkpoint": 1}),  # the first edit may be one
        # Perplexity that grows at once, on the way to the loss.
        (FADED, {}, {"kind": GRADUAL}),
        (FADED, {"jumps": {20: 10.0}}, {"kind": ABRUPT}),
        (FADED, {"jumps": {20: 9.99, 10: 50.0}}, {"kind": GRADUAL}),
        # Values on a threshold have not crossed it.
        ({0: 1, 1: 0.5}, {"half": 0.0}, {"kind": NONE}),
        ({0: 1, 1: (0.75 - 0.5) / (1.0 - 0.5) - 1e-16}, {"half": 0.0}, {"kind": NONE}),
        ({0: 1, 1: 0.9, 5: 0.4}, {"half": 0.0}, {"kind": ABRUPT}),
        ({0: 1, 1: 0.9 - 1e-6, 5: 0.4}, {"half": 0.0}, {"kind": GRADUAL}),
        # Checkpoints that were planned and not measured.
        (
            GAP,
            {},
            {"kind": UNCLEAR, "checkpoint": 50, "before": 5, "note": "not measured in between: 10, 20"},
        ),
        (GAP, {"jumps": {20: 30.0}}, {"kind": ABRUPT}),
        (GAP | {5: 0.7}, {}, {"kind": GRADUAL}),
        ({0: 1, 1: 0.1, 5: 1.0}, {}, {"note": "intact again at 5"}),
        ({0: 1}, {}, {"kind": UNMEASURED}),
    ],
)
def test_courses_are_told_apart(kept, given, expected):
    made = found(kept, **given)
    assert {name: made[name] for name in expected} == expected


def test_an_interval_that_reaches_above_the_threshold_is_no_loss():
    made = found({0: 1, 1: 0.48}, half=0.05)
    assert made["kind"] == NONE
    assert "beyond the threshold at 1" in made["note"]


def test_tasks_together_are_a_mean_whose_error_shrinks():
    rows, other = (
        pd.DataFrame(
            {"retained": [1.0, x], "retained_low": [0.8, x - 0.2], "retained_high": [1.2, x + 0.2]}, [0, 5]
        )
        for x in (0.4, 0.8)
    )
    mean = together([rows, other]).loc[5]
    assert mean["retained"] == pytest.approx(0.6)
    assert mean["retained_high"] - mean["retained"] == pytest.approx(0.2 / 2**0.5)


def test_simulated_methods_are_what_they_were_made_to_be():
    made = sequenced({"fading": fading, "broken": broken}, items=sequence_pages.ITEMS, stops={"broken": 60})
    found = abilities(made.runs, made.answers, made.scores, TASKS, sequence_pages.SETTINGS)
    kinds = {task.name: task.kind for task in TASKS}
    rows = collapses(found, made.runs, made.health, sequence_pages.PLANNED, kinds, LIMITS)
    COLLAPSES.check(rows)
    whole = rows[(rows["task"] == TOGETHER) & (rows["order"] == "all")].set_index("editor")
    assert whole["kind"].to_dict() == {"fading": GRADUAL, "broken": ABRUPT}
    lost = whole.loc["broken", ["checkpoint", "ended_at", "reason"]]
    assert lost.tolist() == [20, 60, "weights are not finite"]
    assert set(rows.loc[rows["task"] == "toxic", "kind"]) == {UNMEASURED}


def test_without_rows_there_is_no_collapse():
    none = sequence_pages.tables()["abilities"].head(0)
    assert collapses(none, [], [], {"hundred": CHECKPOINTS}, {}, LIMITS).empty
