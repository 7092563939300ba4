"""Switches between two settings, and whether they move the point of collapse; all by hand."""

import pandas as pd

from aftershock.metrics.abilities.collapse import ABRUPT, NONE, UNMEASURED
from aftershock.metrics.abilities.switches import switches
from aftershock.page.listed import listed
from aftershock.tables.abilities import ABILITIES, COLLAPSES, SWITCHES

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
