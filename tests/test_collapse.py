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
from simulated_sequences import CHECKPOINTS, MANY, TASKS, sequenced

PLANNED = (0, 1, 5, 10, 20, 50, 100)
LIMITS = Collapse()


def found(kept: dict[int, float], half: float = 0.05, jumps: dict[int, float] | None = None) -> dict:
    """The class of a course whose intervals reach `half` to both sides."""
    rows = pd.DataFrame(
        {"retained": kept.values(), "retained_low": [x - half for x in kept.values()],
         "retained_high": [x + half for x in kept.values()]},
        index=list(kept),
    )  # fmt: skip
    return classify(course_of(rows, LIMITS.below, LIMITS.intact), PLANNED, jumps or {}, LIMITS)


def test_nothing_is_lost():
    made = found(dict.fromkeys(PLANNED, 1.0))
    assert (made["kind"], made["checkpoint"]) == (NONE, None)


def test_a_fall_over_several_checkpoints_is_gradual():
    made = found({0: 1, 1: 1, 5: 0.95, 10: 0.8, 20: 0.6, 50: 0.3, 100: 0.1})
    assert (made["kind"], made["checkpoint"], made["before"]) == (GRADUAL, 50, 20)


def test_a_fall_within_one_step_is_abrupt():
    made = found({0: 1, 1: 1, 5: 1, 10: 0.95, 20: 0.1, 50: 0.0, 100: 0.0})
    assert (made["kind"], made["checkpoint"], made["before"]) == (ABRUPT, 20, 10)


def test_the_first_edit_may_be_one():
    assert found({0: 1, 1: 0.0})["checkpoint"] == 1


def test_perplexity_that_grows_at_once_makes_a_fall_abrupt():
    kept = {0: 1, 1: 1, 5: 0.8, 10: 0.7, 20: 0.2}
    assert found(kept)["kind"] == GRADUAL
    assert found(kept, jumps={20: 10.0})["kind"] == ABRUPT
    assert found(kept, jumps={20: 9.99, 10: 50.0})["kind"] == GRADUAL  # not on the way to the loss


def test_values_on_a_threshold_have_not_crossed_it():
    assert found({0: 1, 1: 0.5}, half=0.0)["kind"] == NONE
    assert found({0: 1, 1: (0.75 - 0.5) / (1.0 - 0.5) - 1e-16}, half=0.0)["kind"] == NONE
    assert found({0: 1, 1: 0.9, 5: 0.4}, half=0.0)["kind"] == ABRUPT
    assert found({0: 1, 1: 0.9 - 1e-6, 5: 0.4}, half=0.0)["kind"] == GRADUAL


def test_an_interval_that_reaches_above_the_threshold_is_no_loss():
    made = found({0: 1, 1: 0.48}, half=0.05)
    assert made["kind"] == NONE
    assert "beyond the threshold at 1" in made["note"]


def test_a_fall_across_missing_checkpoints_is_unclear():
    made = found({0: 1, 1: 1, 5: 1, 50: 0.1})
    assert (made["kind"], made["checkpoint"], made["before"]) == (UNCLEAR, 50, 5)
    assert made["note"] == "not measured in between: 10, 20"
    assert found({0: 1, 1: 1, 5: 1, 50: 0.1}, jumps={20: 30.0})["kind"] == ABRUPT
    assert found({0: 1, 1: 1, 5: 0.7, 50: 0.1})["kind"] == GRADUAL


def test_a_return_is_noted():
    assert found({0: 1, 1: 0.1, 5: 1.0})["note"] == "intact again at 5"


def test_one_point_is_no_course():
    assert found({0: 1})["kind"] == UNMEASURED


def test_tasks_together_are_a_mean_whose_error_shrinks():
    rows = pd.DataFrame(
        {"retained": [1.0, 0.4], "retained_low": [0.8, 0.2], "retained_high": [1.2, 0.6]}, [0, 5]
    )
    other = pd.DataFrame(
        {"retained": [1.0, 0.8], "retained_low": [0.8, 0.6], "retained_high": [1.2, 1.0]}, [0, 5]
    )
    mean = together([rows, other]).loc[5]
    assert mean["retained"] == pytest.approx(0.6)
    assert mean["retained_high"] - mean["retained"] == pytest.approx(0.2 / 2**0.5)


@pytest.mark.thorough  # tables of the page hold them too
def test_simulated_methods_are_what_they_were_made_to_be():
    methods = {name: MANY[name] for name in list(MANY)[:6]}
    made = sequenced(methods, items=sequence_pages.ITEMS, stops={"method 05": 60})
    found = abilities(made.runs, made.answers, made.scores, TASKS, sequence_pages.SETTINGS)
    kinds = {task.name: task.kind for task in TASKS}
    rows = collapses(found, made.runs, made.health, sequence_pages.PLANNED, kinds, LIMITS)
    COLLAPSES.check(rows)
    whole = rows[(rows["task"] == TOGETHER) & (rows["order"] == "all")].set_index("editor")
    assert set(whole.loc[[f"method {i:02}" for i in (0, 3)], "kind"]) == {NONE}
    broken = whole.loc[["method 02"]]
    assert set(broken["kind"]) == {ABRUPT}
    assert set(broken["checkpoint"]) == {20}
    assert set(whole.loc[[f"method {i:02}" for i in (1, 4)], "kind"]) == {GRADUAL}
    ended = whole.loc["method 05"]
    assert (ended["ended_at"], ended["reason"]) == (60, "weights are not finite")
    assert set(rows.loc[rows["task"] == "toxic", "kind"]) == {UNMEASURED}


def test_without_rows_there_is_no_collapse():
    none = sequence_pages.tables()["abilities"].head(0)
    assert collapses(none, [], [], {"hundred": CHECKPOINTS}, {}, LIMITS).empty
