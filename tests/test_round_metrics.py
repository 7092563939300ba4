"""RoundEdit metrics, means by facet and agreement of texts, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from aftershock.metrics.rounds import held_out_objects, known_objects, score_round
from aftershock.metrics.settings import Statistics
from aftershock.metrics.study import shown
from aftershock.metrics.summary import breakdown
from aftershock.tables.cases import PROBES
from aftershock.tables.models import OBJECT_SCORES
from aftershock.tables.report import BREAKDOWNS
from aftershock.tasks.agreement import plain_words, rouge_l, rouge_n, rouge_sets, token_f1
from simulate import cases_of, run_of, scores_of, values
from test_metrics import cases, observed, probabilities_of

GIVEN = ("success", "success_released", "distortion", "distortion_released", "ignore_rate", "failure_rate")
"""Metrics that are also given for the cases whose first edit worked."""
ROUND = {
    ("target", 0): {"0": 0.1, "1": 0.9, "2": 0.2, "random": 0.1},
    ("original", 0): {"0": 0.4, "1": 0.1, "2": 0.6, "random": 0.4},
    ("object", 0): {"0": 0.2, "1": 0.1, "2": 0.15, "random": 0.1},
    ("object", 1): {"0": 0.2, "1": 0.1, "2": 0.25, "random": 0.2},
    ("control_object", 0): {"0": 0.3, "1": 0.3, "2": 0.3, "random": 0.3},
    ("control_object", 1): {"0": 0.1, "1": 0.1, "2": 0.09, "random": 0.1},
}


def divergence(before, after):
    """The terms of the divergence between the shares of probabilities."""
    p, q = (np.array(values) / sum(values) for values in (before, after))
    middle = (p + q) / 2
    return (p * np.log(p / middle) + q * np.log(q / middle)) / 2


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
        "distortion_undershoot": 0,
        "distortion_gain": 0,
        "distortion_control": divergence([0.3, 0.1], [0.3, 0.09]).sum(),
        "distortion_after_first": divergence([0.4, 0.2, 0.2], [0.1, 0.1, 0.1]).sum(),
        "distortion_random_difference": edited + lost - divergence([4, 2, 2], [4, 1, 2]).sum(),
        "ignore_count": 1,
        "ignore_rate_by_chance": 0.5,
        **{"ignore_rate": 0.5, "ignore_rate_tie": 0},
        "failure_rate": 0,  # exactly half is no failure
        "ignore_rate_margin": 0.5,
        "others_log_ratio": (math.log(0.75) + math.log(1.25)) / 2,
        "ignore_rate_control": 0.5,
        "ignore_rate_margin_control": 0.5,  # ln .9 is below -.1
        "failure_rate_by_chance": 0.25,  # two objects: both must lose
        "ignore_rate_by_chance_difference": 0,
        "failure_rate_by_chance_difference": -0.25,
        "ignore_rate_control_difference": 0,
        "ignore_rate_random_difference": 0,
        "ignore_rate_after_first": 1,
        "any_exact_before": 0,
        "known": 2 / 3,
        "e1_failed": 0,
        **{"e1_efficacy": 1, "e1_efficacy_magnitude": 0.8, "e1_exact": 1},
        **{"e2_efficacy": 1, "e2_efficacy_magnitude": 0.4, "e2_exact": 1},
        **probabilities_of("target", 0.1, 0.9, 0.2),
        **probabilities_of("original", 0.4, 0.1, 0.6),
        **probabilities_of("others", 0.2, 0.1, 0.2),
        **{f"{name}_given_e1": got[name] for name in GIVEN},
    }
    assert got[list(expected)].to_dict() == pytest.approx(expected)


def test_undecided_comparisons_and_objects_that_gain_by_hand():
    likely = dict.fromkeys(("0", "1", "2", "random"), 0.6)
    facts = {
        ("target", 0): {"0": 0.1, "1": 0.9, "2": 0.2},
        ("original", 0): {"0": 0.6, "1": 0.2, "2": 0.2},
        **{("object", position): likely for position in range(2)},
    }
    got = values(score_round(cases(), observed(facts)))
    original, *others = divergence([1, 1, 1], [1, 3, 3])
    expected = {
        **{"success": 0.5, "success_tie": 0.5},  # .9 > .1, and .2 against .2
        **{"success_released": 0.5, "success_released_tie": 0.5},  # .9 > .2, and .2 against .2
        **{"ignore_rate": 0, "ignore_rate_tie": 1},
        **{"distortion_undershoot": original, "distortion_gain": sum(others)},
        **{"distortion_overshoot": 0, "distortion_loss": 0},
        "any_exact": 1,  # by an object that was not edited
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
    assert got[f"distortion_{argument}"] == pytest.approx(divergence([0.4, 0.2], [0.6, after]).sum())
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
    assert got[got.index.str.startswith("distortion")].isna().all()
    assert got[["ignore_rate", "failure_rate_by_chance"]].isna().all()
    assert got["success"] == 1
    facts |= {("object", 0): ROUND["object", 0], ("target", 0): {"0": 0.1, "1": 0.9, "2": 0.95}}
    one = values(score_round(cases(), observed(facts)))
    assert (one["ignore_rate_by_chance"], one["failure_rate_by_chance"]) == (0.5, 0.5)
    assert (one["failure_rate"], one["e1_failed"]) == (1, 0)


RUN = run_of()
QUICK = Statistics(resamples=200)


def facets_of(**levels):
    rows = [(case, facet, level) for facet, by_case in levels.items() for case, level in enumerate(by_case)
            if level is not None]  # fmt: skip
    return pd.DataFrame(rows, columns=["case_id", "facet", "level"])


def broken_down(scores, facets, metrics=("conflict_score_exp", "conflict_magnitude"), cases=None):
    cases = cases_of(scores["case_id"].max() + 1 if len(scores) else 0) if cases is None else cases
    table = breakdown(scores, cases, facets, RUN, metrics, QUICK)
    BREAKDOWNS.check(table)
    return table.set_index(["facet", "level", "metric"])


def test_levels_by_hand():
    scores = scores_of(
        {"conflict_score_exp": [1.0, 0.0, 1.0, 1.0], "conflict_magnitude": [0.5, None, 0.25, None]}
    )
    table = broken_down(scores, facets_of(rule=["x", "x", "y", "y"], popularity=["low", None, None, "high"]))
    assert table.loc[("rule", "x", "conflict_score_exp"), "value"] == 0.5
    assert table.loc[("rule", "y", "conflict_score_exp"), "value"] == 1
    some = table.loc["rule", "x", "conflict_magnitude"]
    assert (some["value"], some["n"], some["empty"]) == (0.5, 1, 1)
    none = table.loc["popularity", "high", "conflict_magnitude"]
    assert (none["n"], none["empty"], none["clusters"]) == (0, 1, 0)
    assert pd.isna(none["value"])
    assert set(table.loc["popularity"].index.get_level_values("level")) == {"low", "high"}


def test_cases_of_other_runs_and_no_case():
    scores = scores_of({"conflict_score_exp": [1.0, 0.0]})
    table = broken_down(scores, facets_of(rule=["x", "x", "z"]))
    assert table.index.get_level_values("level").unique().tolist() == ["x"]
    assert broken_down(scores_of({}), facets_of(rule=["x"])).empty
    assert broken_down(scores, facets_of()).empty


def test_numbers_come_in_the_order_of_their_size():
    scores = scores_of({"conflict_score_exp": [1.0, 0.0, 1.0, 1.0]})
    table = broken_down(scores, facets_of(n_objects=["10", "9", "100", "2"], rule=["z", "b", "10x", "a"]))
    levels = table.index.to_frame(index=False).groupby("facet", sort=False)["level"].agg(list).to_dict()
    assert levels == {"n_objects": ["2", "9", "10", "100"], "rule": ["10x", "a", "b", "z"]}


def test_what_is_shown_is_what_tables_have():
    known = shown("reverse", ["conflict_magnitude", "known", "conflict_score_exp", "e1_exact"])
    assert known == ["conflict_score_exp", "conflict_magnitude", "known"]
    assert "tied_fact_damage_known" in shown("composite", ["tied_fact_damage", "tied_fact_damage_known"])
    assert shown("reverse", []) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Eiffel-Tower, in Paris!", "eiffeltower in paris"),
        ("A an the", ""),
        ("theatre and anthem", "theatre and anthem"),
        ("It's «São Paulo».", "its «são paulo»"),
    ],
)
def test_answers_are_compared_as_squad_does(text, words):
    assert plain_words(text) == words


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("the cat sat", "a cat sat down", 0.8),  # 2 shared of 2 and 3
        ("cat cat cat", "cat", 0.5),  # one of three is shared, by counts
        ("the", "a", 1.0),  # both without words
        ("the", "cat", 0.0),
        ("dog", "cat", 0.0),
    ],
)
def test_f1_of_words(prediction, answer, expected):
    assert token_f1(prediction, answer) == pytest.approx(expected)


def test_the_longest_common_subsequence_keeps_the_order():
    assert rouge_l("mat the on cat", "cat on the mat") == pytest.approx(2 / 8)


def test_rouge_counts_repetition_and_has_no_value_of_nothing():
    assert rouge_n("cat cat cat cat", "cat", 1) == pytest.approx(2 / 5)
    assert [rouge_n("", "cat", 1), rouge_l("...", "cat"), rouge_n("cat", "cat", 2)] == [0.0, 0.0, 0.0]


REPEATED = "Una will come to Sandra. " * 4
RECORDED = [  # of the packages rouge 1.0.1, as Study B calls it, and rouge_score 0.1.2
    ("Una will come to Sandra because she needs help. aaaa bbbb cccc", 0.5814536291, (8 / 11, 0.5, 8 / 11)),
    (REPEATED, 0.5171568581, (0.4, 0.2857142857, 0.4)),
    ("short", 0.0, (0.0, 0.0, 0.0)),
]


@pytest.mark.parametrize(("prediction", "released", "strict"), RECORDED)
def test_rouge_as_recorded(prediction, released, strict):
    answer = "Una will come to Sandra, because Sandra needs her help. "
    assert rouge_sets(prediction, answer) == pytest.approx(released, abs=1e-7)
    found = (rouge_n(prediction, answer, 1), rouge_n(prediction, answer, 2), rouge_l(prediction, answer))
    assert found == pytest.approx(strict, abs=1e-9)


def test_the_released_rouge_rewards_repetition():
    answer = "Una comes."
    once, often = "Una comes", "Una comes Una comes Una comes"
    assert rouge_sets(f"{often}<|endoftext|>", answer) >= 0.8 * rouge_sets(f"{once}<|endoftext|>", answer)
    assert rouge_n(often, answer, 1) == pytest.approx(0.5)
