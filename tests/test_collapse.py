"""Points of collapse on made-up courses, and switches between settings that may move them, by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import sequence_pages
from aftershock.metrics.abilities.abilities import abilities
from aftershock.metrics.abilities.collapse import (
    ABRUPT,
    GRADUAL,
    NONE,
    RETAINED,
    TOGETHER,
    UNCLEAR,
    UNMEASURED,
    classify,
    collapses,
    together,
)
from aftershock.metrics.abilities.collapse import _course as course_of
from aftershock.metrics.abilities.settings import Collapse
from aftershock.metrics.abilities.switches import switches
from aftershock.page.listed import listed
from aftershock.tables.abilities import ABILITIES, COLLAPSES, SWITCHES
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


def test_a_score_below_the_floor_retains_nothing_among_all_tasks():
    far, whole = (
        pd.DataFrame(np.add.outer(x, [0, -0.4, 0.4]), [0, 5], RETAINED) for x in ([1.0, -3.6], [1.0, 1.0])
    )
    near = far.assign(retained=[1.0, -0.1], retained_low=[0.6, -0.5], retained_high=[1.4, 0.3])
    assert together([far, whole]).loc[5].tolist() == pytest.approx([0.5, 0.3, 0.7])
    assert together([near, near]).loc[5].tolist() == pytest.approx([0.0, 0.0, 0.3 / 2**0.5])


def test_simulated_methods_are_what_they_were_made_to_be():
    made = sequenced({"fading": fading, "broken": broken}, items=sequence_pages.ITEMS, stops={"broken": 60})
    found = abilities(made.runs, made.answers, made.scores, TASKS, sequence_pages.SETTINGS)
    rows = collapses(found, made.runs, made.health, sequence_pages.PLANNED, TASKS, LIMITS)
    COLLAPSES.check(rows)
    whole = rows[(rows["task"] == TOGETHER) & (rows["order"] == "all")].set_index("editor")
    assert whole["kind"].to_dict() == {"fading": GRADUAL, "broken": ABRUPT}
    lost = whole.loc["broken", ["checkpoint", "ended_at", "reason"]]
    assert lost.tolist() == [20, 60, "weights are not finite"]
    assert set(rows.loc[rows["task"] == "toxic", "kind"]) == {UNMEASURED}


def test_a_benchmark_counts_once_among_all_tasks():
    made = sequenced({"fading": fading}, items=sequence_pages.ITEMS)
    found = abilities(made.runs, made.answers, made.scores, TASKS, sequence_pages.SETTINGS)
    first, *others = (replace(task, benchmark=task.name) for task in TASKS)
    twin = replace(first, name="twin", protocol="released")
    kept = found[found["task"] == first.name].assign(
        task="twin", retained=3.0, retained_low=3.0, retained_high=3.0
    )

    def wholes(rows, tasks):
        lost = collapses(rows, made.runs, made.health, sequence_pages.PLANNED, tasks, LIMITS)
        return lost[lost["task"] == TOGETHER].reset_index(drop=True)

    once = wholes(found, TASKS)
    both = pd.concat([found, kept], ignore_index=True)
    pd.testing.assert_frame_equal(wholes(both, [first, twin, *others]), once)
    alone = wholes(both, [replace(first, protocol="released"), twin, *others])
    assert not alone.equals(once)  # two released protocols and no strict one: both count


def test_without_rows_there_is_no_collapse():
    none = sequence_pages.tables()["abilities"].head(0)
    assert collapses(none, [], [], {"hundred": CHECKPOINTS}, [], LIMITS).empty


PLACE = {"model": "m", "plan": "p", "editor": "rome", "order": "all"}


def collapse(task, kind, checkpoint=None, ended_at=None, **place):
    row = {**PLACE, "task": task, "kind": kind, "checkpoint": checkpoint, "ended_at": ended_at, **place}
    return dict.fromkeys(COLLAPSES.columns) | row


def ability(task, checkpoint, retained, **place):
    row = {**PLACE, "task": task, "checkpoint": checkpoint, "retained": retained, "headline": True, **place}
    return dict.fromkeys(ABILITIES.columns) | row


def table(lost, kept, wanted):
    found = switches(
        pd.DataFrame(lost, columns=list(COLLAPSES.columns)),
        pd.DataFrame(kept, columns=list(ABILITIES.columns)),
        wanted,
    )
    SWITCHES.check(found)
    return found


MOMENTS = {"moments": {"editors": ["rome", "other"]}}


def test_effects_of_a_switch():
    pairs = [
        ((ABRUPT, 10), (ABRUPT, 100), "lost earlier with rome"),
        ((ABRUPT, 100), (ABRUPT, 10), "lost earlier with other"),
        ((ABRUPT, 10), (ABRUPT, 10), "lost at the same checkpoint"),
        ((ABRUPT, 10), (NONE,), "lost with rome only"),
        ((NONE,), (ABRUPT, 10), "lost with other only"),
        ((NONE,), (NONE,), "lost with neither"),
        ((UNMEASURED,), (ABRUPT, 10), UNMEASURED),
        ((NONE, None, 7), (ABRUPT, 10), "lost earlier with rome"),  # a sequence that ended early
    ]
    lost = []
    for i, (one, other, _) in enumerate(pairs):
        lost += [collapse(f"t{i}", *one), collapse(f"t{i}", *other, editor="other")]
    assert table(lost, [], MOMENTS)["effect"].tolist() == [effect for _, _, effect in pairs]


def test_what_is_retained_is_compared_at_the_last_checkpoint_of_both():
    lost = [collapse("t", ABRUPT, 10), collapse("t", NONE, editor="other")]
    kept = [ability("t", n, value) for n, value in ((1, 0.9), (10, 0.2))]
    kept += [ability("t", n, value, editor="other") for n, value in ((1, 1.0), (10, 0.8), (100, 0.7))]
    kept += [ability("t", 100, 0.1, order="0")]
    (row,) = table(lost, kept, MOMENTS).to_dict("records")
    assert (row["checkpoint"], row["one_retained"], row["other_retained"]) == (10, 0.2, 0.8)
    assert (row["editor"], row["plan"], row["one_lost_at"]) == ("rome / other", "p", 10)


def test_plans_and_tasks_are_switched_with_everything_else_equal():
    lost = [
        collapse("strict", ABRUPT, 10), collapse("released", NONE),
        collapse("strict", ABRUPT, 10, plan="q"), collapse("released", ABRUPT, 50, plan="q"),
        collapse("strict", NONE, editor="other"),
    ]  # fmt: skip
    wanted = {"prompt": {"tasks": ["strict", "released"]}, "at once": {"plans": ["p", "q"]}}
    found = table(lost, [], wanted).set_index(["switch", "plan", "task"])["effect"]
    assert found.to_dict() == {
        ("prompt", "p", "strict / released"): "lost with strict only",
        ("prompt", "q", "strict / released"): "lost earlier with strict",
        ("at once", "p / q", "strict"): "lost at the same checkpoint",
        ("at once", "p / q", "released"): "lost with q only",
    }


def test_switches_are_a_table_of_the_page():
    found = table([collapse("t", ABRUPT, 10), collapse("t", NONE, editor="other")], [], MOMENTS)
    ((section, made),) = listed({"switches": found}, [])
    assert section == "abilities"
    assert "lost with rome only" in str(made)
