"""RoundEdit metrics, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from aftershock.metrics.rounds import held_out_objects, known_objects, score_round
from aftershock.tables.cases import PROBES
from aftershock.tables.models import OBJECT_SCORES
from simulate import values
from test_metrics import cases, observed

ROUND = {
    ("target", 0): {"0": 0.1, "1": 0.9, "2": 0.2, "random": 0.1},
    ("original", 0): {"0": 0.4, "1": 0.1, "2": 0.6, "random": 0.4},
    ("object", 0): {"0": 0.2, "1": 0.1, "2": 0.15, "random": 0.1},
    ("object", 1): {"0": 0.2, "1": 0.1, "2": 0.25, "random": 0.2},
    ("control_object", 0): {"0": 0.3, "1": 0.3, "2": 0.3, "random": 0.3},
    ("control_object", 1): {"0": 0.1, "1": 0.1, "2": 0.09, "random": 0.1},
}


def test_round_metrics_by_hand():
    table = cases().assign(n_objects=3, n_known=2)
    got = values(score_round(table, observed(ROUND)))
    # Unedited (.5, .25, .25), after both (.6, .15, .25): mean (.55, .2, .25).
    edited = (0.6 * math.log(0.6 / 0.55) + 0.5 * math.log(0.5 / 0.55)) / 2
    lost = (0.15 * math.log(0.15 / 0.2) + 0.25 * math.log(0.25 / 0.2)) / 2
    expected = {
        "success": 1,  # .9 > .1 and .6 > .1
        "success_released": 1,  # .9 > .1 and .6 > .2
        "distortion": edited + lost,
        "distortion_released": (edited + lost) / 3,
        "distortion_overshoot": edited,
        "distortion_loss": lost,
        "ignore_count": 1,
        "ignore_rate_by_chance": 0.5,
        "ignore_rate": 0.5,
        "failure_rate": 0,  # exactly half is no failure
        "ignore_rate_margin": 0.5,
        "others_log_ratio": (math.log(0.75) + math.log(1.25)) / 2,
        "ignore_rate_control": 0.5,
        "ignore_rate_margin_control": 0.5,  # ln .9 is below -.1
        "failure_rate_by_chance": 0.25,  # two objects: both must lose
        "any_exact_before": 0,
        "known": 2 / 3,
    }
    assert got[list(expected)].to_dict() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("argument", "chosen", "ignored", "after"),
    [("known", [False, True], 0, 0.25), ("held_out", [True, False], 1, 0.15)],
)
def test_chosen_objects_restrict_the_metrics(argument, chosen, ignored, after):
    index = pd.MultiIndex.from_tuples([(0, 0), (0, 1)], names=["case_id", "position"])
    objects = pd.Series(chosen, index=index)
    got = values(score_round(cases(), observed(ROUND), **{argument: objects}))
    assert got[f"ignore_rate_{argument}"] == ignored  # .2 -> after
    p, q = np.array([0.4, 0.2]) / 0.6, np.array([0.6, after]) / (0.6 + after)
    middle = (p + q) / 2
    divergence = (p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2
    assert got[f"distortion_{argument}"] == pytest.approx(divergence)
    nothing = values(score_round(cases(), observed(ROUND), **{argument: objects & False}))
    assert nothing[[f"{n}_{argument}" for n in ("ignore_rate", "distortion", "failure_rate")]].isna().all()


def objects_of(n):
    """PROBES of the true objects E0, E1, ... called o0, o1, ..."""
    rows = [(0, "object", i, i, "E1", "s", "R1", f"E{i}", f"o{i}", "all") for i in range(n)]
    return pd.DataFrame(rows, columns=list(PROBES.columns))


def test_held_out_objects_are_those_that_the_second_edit_was_not_given():
    second = pd.DataFrame({"case_id": [0, 0], "target_new": ["o1", "original"]})
    held_out = held_out_objects(objects_of(2), second)
    assert held_out.tolist() == [True, False]
    assert held_out.index.tolist() == [(0, 0), (0, 1)]


def test_objects_that_are_not_listed_are_not_known():
    scored = pd.DataFrame(
        [("E1", "R1", "E0", 0.5, 1, True, None), ("E1", "R1", "E1", 0.1, 9, False, None)],
        columns=list(OBJECT_SCORES.columns),
    )
    assert known_objects(objects_of(3), scored).tolist() == [True, False, False]


def test_a_case_without_other_objects_has_no_distortion():
    facts = {key: value for key, value in ROUND.items() if key[0] in ("target", "original")}
    got = values(score_round(cases(), observed(facts)))
    assert got[["distortion", "distortion_released", "ignore_rate", "failure_rate_by_chance"]].isna().all()
    assert got["success"] == 1
