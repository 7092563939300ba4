"""Metrics against numbers worked out by hand, and against those of the study's own code."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aftershock.matching import begins_with, goes_on_with, names
from aftershock.metrics.conflict import score_conflict
from aftershock.metrics.observed import Facts, lean, probabilities
from aftershock.metrics.released import released_metrics
from aftershock.tables.cases import PROBES
from aftershock.tables.runs import OBSERVATIONS, PROBABILITIES
from recorded_results import check_metrics
from simulate import values

GOLDEN = Path(__file__).parents[1].parent / "shared/golden/cases/metrics"


# --- helpers -----------------------------------------------------------------------------------------------
def observed(facts, case=0):
    """Facts of one case from {(role, position): {state: p}}: p after every one of three prompts."""
    rows = [
        {"role": role, "position": position, "state": state, "object": f"o{position}", "p": p}
        for (role, position), by_state in facts.items()
        for state, p in by_state.items()
    ]
    frame = pd.DataFrame(rows)
    likely = frame["p"] > 0.5
    with np.errstate(divide="ignore"):
        logs = np.log(frame["p"])
    frame = frame.assign(case_id=case, subject="s", relation_id="R1", prompts="all", n_tokens=2)
    frame = frame.assign(log_probability=logs, exact=likely, generated=likely.astype("boolean"))
    for column in PROBABILITIES.columns:
        if column.endswith("probability") and column not in frame:
            frame[column] = frame["p"]
        elif column not in frame:
            frame[column] = None if column == "continuation" else likely.astype(float)
    return Facts(
        frame[list(PROBABILITIES.columns)],
        np.tile(frame[["p"]], 3),
        np.tile(frame[["exact"]].astype(float), 3),
    )


def cases(n=1):
    frame = pd.DataFrame({"case_id": range(n), "split": "test", "rule": "R1>R2", "strict": True})
    return frame.assign(functionality=1.0, cluster=range(n), tied_known=True, n_objects=0, n_known=0)


# --- p(k) --------------------------------------------------------------------------------------------------
def facts_of(token_logs, label="o", **columns):
    """Facts of one probe from the log-probabilities of its tokens by prompt."""
    rows = [
        (0, "1", 0, prompt, sum(logs), len(logs), logs, False, 0, None) for prompt, logs in token_logs.items()
    ]
    observations = pd.DataFrame(rows, columns=list(OBSERVATIONS.columns)).assign(**columns)
    probe = (0, "old", 0, 0, "E1", "s", "R1", "E2", label, "all")
    return probabilities(pd.DataFrame([probe], columns=list(PROBES.columns)), lean(observations))


def test_probability_is_a_mean_over_prompts_of_geometric_means_over_tokens():
    # Prompt 0: tokens .5 and .125, geometric mean .25; prompts 9 and 10: .5 and 1.
    tokens = {0: (0.5, 0.125), 9: (0.5,), 10: (1.0, 1.0, 1.0)}
    said = [" Oslo, and so on", None, None]
    matched = {"argmax_match": [False, True, False], "tokens_matched": [1, 0, 2]}
    logs = {prompt: np.log(ps).tolist() for prompt, ps in tokens.items()}
    facts = facts_of(logs, "oslo", continuation=said, **matched)
    row = facts.table.iloc[0]
    expected = {
        "probability": (0.25 + 0.5 + 1) / 3,
        "log_probability": math.log((0.25 + 0.5 + 1) / 3),
        "edit_probability": 0.25,
        "paraphrase_probability": 0.75,
        "joint_probability": (0.0625 + 0.5 + 1) / 3,
        "joint_edit_probability": 0.0625,
        "first_probability": (0.5 + 0.5 + 1) / 3,
        "first_paraphrase_probability": 0.75,
        **{"exact": 0, "paraphrase": 0.5, "held_out": 0.5, "token_accuracy": 0.5},
        "paraphrase_token_accuracy": (0 + 2 / 3) / 2,
    }
    assert row[list(expected)].to_dict() == pytest.approx(expected)
    assert (row["continuation"], row["generated"]) == (said[0], True)
    assert facts.by_prompt[0, [0, 9, 10]] == pytest.approx([0.25, 0.5, 1])
    assert np.isnan(facts.by_prompt[0, 1:9]).all()


def test_a_probability_too_small_for_a_number_keeps_its_logarithm():
    row = facts_of({prompt: [-2000.0] for prompt in range(4)}).table.iloc[0]
    assert row["probability"] == 0
    assert row["log_probability"] == pytest.approx(-2000)
    assert pd.isna(row["generated"])


@pytest.mark.parametrize(
    ("text", "label", "begins", "inside"),
    [
        (" Oslo.", "Oslo", True, True),
        ("\n OSLO  Fjord", "oslo fjord", True, True),
        (" Oslofjord", "Oslo", False, False),
        (" in Oslo", "Oslo", False, True),
        (" the (C++) guild", "the (C++)", True, True),
        (" in São Paulo", "São  Paulo", False, True),
        ("", "Oslo", False, False),
    ],
)
def test_what_a_continuation_names(text, label, begins, inside):
    assert begins_with(text, label) == begins
    assert names(text, label) == inside


@pytest.mark.parametrize(
    ("text", "said"),
    [(" Order of the Heron.", True), (" Order of", None), (" Order of the Her", None), (" Order, of", False),
     ("", False), (None, None), (" order of the heron", True)],
)  # fmt: skip
def test_a_continuation_that_ends_within_an_object_says_nothing(text, said):
    assert goes_on_with(text, "Order of the Heron") is said


# --- conflict ----------------------------------------------------------------------------------------------
CONFLICT = {
    ("old", 0): {"0": 0.1, "1": 0.8, "2": 0.2, "e2_only": 0.1, "control": 0.4},
    ("new_exp", 0): {"0": 0.05, "1": 0.05, "2": 0.6, "e2_only": 0.7, "control": 0.05},
    ("new_imp", 0): {"0": 0.2, "1": 0.2, "2": 0.2, "e2_only": 0.1, "control": 0.5},
    ("e2_true", 0): {"0": 0.9, "1": 0.9, "2": 0.6, "e2_only": 0.5, "control": 0.9},
    ("e1_true", 0): {"0": 0.9, "1": 0.8, "2": 0.1, "e2_only": 0.9, "control": 0.8},
    ("tied", 0): {"0": 0.5, "1": 0.4, "2": 0.1, "e2_only": 0.25, "control": 0.3},
    ("control_same", 0): {"0": 0.5, "1": 0.5, "2": 0.4, "e2_only": 0.5, "control": 0.5},
    ("control_same", 1): {"0": 0.5, "1": 0.5, "2": 0.3, "e2_only": 0.5, "control": 0.5},
    ("control_unrelated", 0): {"0": 0.8, "1": 0.8, "2": 0.9, "e2_only": 0.8, "control": 0.8},
}


GIVEN = ["success", "success_released", "conflict_score_exp", "conflict_score_imp", "conflict_magnitude"]
GIVEN += ["conflict_magnitude_released", "conflict_magnitude_log_ratio", "tied_fact_damage"]
GIVEN += ["tied_fact_damage_released", "tied_fact_damage_log_ratio"]
"""Metrics that are also given for the cases whose first edit worked."""


def probabilities_of(name, before, first, after):
    """The metrics that are the probability of a fact along an edit sequence."""
    endings = ("_before", "_after_first", "")
    return {
        f"probability_{name}{ending}": p for ending, p in zip(endings, (before, first, after), strict=True)
    }


def test_conflict_metrics_by_hand():
    got = values(score_conflict(cases(), observed(CONFLICT), "composite"))
    expected = {
        "success": 1,  # .6 > .05
        "success_released": 0,  # .6 against .6: a tie
        "success_released_tie": 1,
        "conflict_score_exp": 1,  # .6 > .2
        "conflict_score_exp_change": 1,  # .05 < .1 before any edit
        "conflict_score_imp": 0,  # .2 against .2
        "conflict_score_imp_tie": 1,
        "conflict_score_imp_change": -1,  # .2 > .1 before any edit
        "conflict_score_imp_control_difference": -1,  # .5 > .4
        "conflict_magnitude": 0.75,  # (.8 - .2) / .8
        "conflict_magnitude_released": 0.75,
        "conflict_magnitude_log_ratio": math.log(4),
        "conflict_magnitude_control": 0.5,  # (.8 - .4) / .8
        "conflict_magnitude_control_difference": 0.25,
        "tied_fact_damage": 0.75,  # (.4 - .1) / .4
        "tied_fact_damage_released": 0.8,  # (.5 - .1) / .5
        "tied_fact_damage_e2_only": 0.5,
        "tied_fact_damage_control_difference": 0.5,  # .25 less: (.4 - .3) / .4
        "tied_fact_damage_same": 0.3,  # mean of .2 and .4
        "tied_fact_damage_unrelated_difference": 0.875,
        "tied_fact_damage_log_ratio": math.log(4),
        "tied_fact_damage_log_ratio_control": math.log(4 / 3),
        "e1_failed": 0,
        "known": 1,
        "e1_efficacy": 0,  # .8 against .8: a tie
        "e2_efficacy_magnitude_before": 0.05 - 0.9,
        **probabilities_of("old", 0.1, 0.8, 0.2),
        **probabilities_of("new_exp", 0.05, 0.05, 0.6),
        **probabilities_of("new_imp", 0.2, 0.2, 0.2),
        **probabilities_of("tied", 0.5, 0.4, 0.1),
        **{f"{name}_given_e1": got[name] for name in GIVEN},
    }
    assert got[list(expected)].to_dict() == pytest.approx(expected)
    assert not {"single_exact", "single_success", "single_success_tie"} & set(got.index)


def test_a_control_of_the_edit_prompt_alone_is_compared_with_the_tied_fact_there():
    facts = observed(CONFLICT)
    table = facts.table
    table.loc[table["role"] == "control_same", "prompts"] = "edit"
    table.loc[table["role"] == "tied", "edit_probability"] = table["state"].map({"1": 0.8, "2": 0.4})
    got = values(score_conflict(cases(), facts, "composite"))
    assert got["tied_fact_damage_same_difference"] == pytest.approx(0.5 - 0.3)
    assert got["tied_fact_damage_unrelated_difference"] == pytest.approx(0.875)  # of all prompts


@pytest.mark.parametrize(
    ("role", "p", "expected"),
    [
        ("old", (0.3, 0.1, 0.5, 0.1, 0.1), {"": -4, "_released": -1, "_log_ratio": math.log(0.2)}),
        # Nothing to divide by.
        ("old", (0.3, 0, 0.5, 0.1, 0), {"": None, "_released": -1, "_control": None, "_log_ratio": None}),
        (
            "tied",
            (0.1, 0.1, 0.4, 0.1, 0.1),
            {"": -3, "_released": -3, "_clamped": -1, "_released_clamped": -1},
        ),
    ],
)
def test_losses_are_unbounded_but_in_clamped_and_released_forms(role, p, expected):
    facts = CONFLICT | {(role, 0): dict(zip(("0", "1", "2", "e2_only", "control"), p, strict=True))}
    got = values(score_conflict(cases(), observed(facts), "reverse" if role == "old" else "composite"))
    name = "conflict_magnitude" if role == "old" else "tied_fact_damage"
    for ending, value in expected.items():
        assert got[name + ending] == pytest.approx(math.nan if value is None else value, nan_ok=True), ending
    assert got["e1_failed"] == (role == "old")
    given = got[got.index.str.endswith("_given_e1")]
    assert "conflict_magnitude_given_e1" in given
    assert given.isna().all() == (role == "old")


def test_a_vanishing_probability_still_has_a_log_ratio():
    facts = observed(CONFLICT)
    old = facts.table["role"] == "old"
    logs = facts.table["state"].map({"0": -2000.0, "1": -1000.0, "2": -1900.0}).fillna(-1000.0)
    facts.table.loc[old, "probability"] = 0.0
    facts.table.loc[old, "log_probability"] = logs
    got = values(score_conflict(cases(), facts, "reverse"))
    assert got["conflict_magnitude_log_ratio"] == pytest.approx(900)
    assert np.isnan(got["conflict_magnitude"])


def test_single_by_hand():
    facts = {key: CONFLICT[key] for key in [("old", 0), ("new_exp", 0), ("new_imp", 0)]} | {
        ("neighbour", 0): {"0": 0.9, "1": 0.9, "2": 0.9, "e2_only": 0.9},
        ("neighbour", 1): {"0": 0.9, "1": 0.9, "2": 0.9, "e2_only": 0.2},
        ("neighbour", 2): {"0": 0.2, "1": 0.9, "2": 0.9, "e2_only": 0.9},  # unknown before: does not count
        ("e1_true", 0): {"0": 0.9, "1": 0.5, "2": 0.5, "e2_only": 0.3},
        ("neighbour_new", 0): {"0": 0.1, "1": 0.1, "2": 0.1, "e2_only": 0.95},
        ("neighbour_new", 1): {"0": 0.1, "1": 0.1, "2": 0.1, "e2_only": 0.1},
        ("neighbour_new", 2): {"0": 0.2, "1": 0.2, "2": 0.2, "e2_only": 0.1},  # the neighbour's own object
        ("same_subject", 0): {"0": 0.1, "1": 0.1, "2": 0.1, "e2_only": 0.1},
    }
    got = values(score_conflict(cases(), observed(facts), "coverage"))
    expected = {
        "success_released": 1,  # e2 alone: .7 > .1
        "single_exact": 1,
        "single_success": 1,  # .7 > .05
        "single_success_tie": 0,
        "single_efficacy": 1,  # .7 > .3
        "e2_efficacy": 1,  # .6 > .2: of the first edit's object, as there is no other
        "known": 1,
        "single_neighbours_kept": 0.5,
        "single_neighbours_efficacy": 0.5,  # .9 < .95 and .2 > .1
        "single_neighbours_efficacy_before": 1,
        "single_neighbours_token_accuracy": 2 / 3,
        "single_neighbours_log_ratio": (math.log(0.2 / 0.9) + math.log(0.9 / 0.2)) / 3,
        "single_same_subject_log_ratio": 0,
    }
    assert got[list(expected)].to_dict() == pytest.approx(expected)
    assert np.isnan(got["single_same_subject_kept"])


def test_paraphrases_of_a_single_edit_by_hand():
    facts = observed(
        {key: CONFLICT[key] for key in CONFLICT if key[0] in ("old", "new_exp", "new_imp", "e1_true")}
    )
    place = facts.table.reset_index().set_index(["role", "state"])["index"]
    facts.by_prompt[place["new_exp", "e2_only"]] = [0.7, 0.1, 0.95]  # e1_true: .9 after each
    facts.exact_by_prompt[place["new_exp", "e2_only"]] = [0, 1, 0]
    facts.exact_by_prompt[place["e1_true", "0"]] = [1, 1, 0]
    got = values(score_conflict(cases(), facts, "coverage"))
    assert (got["single_efficacy"], got["single_paraphrase_efficacy"]) == (0, 0.5)
    assert got["single_paraphrases_known"] == 0.5
    assert got["single_paraphrase_answered"] == 1  # of the first one, which is known


# --- the released code -------------------------------------------------------------------------------------
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recorded metrics in ../shared/golden are not here")
def test_released_numbers_are_reproduced():
    checks = [check for folder in GOLDEN.glob("*/expected.json") for check in check_metrics(folder.parent)]
    assert checks
    assert [check for check in checks if not check.passed] == []


def test_released_round_results_need_the_unedited_model(tmp_path):
    (tmp_path / "ROME_easy.json").write_text(json.dumps([{"edit1": {}, "edit2": {}}]))
    with pytest.raises(ValueError, match=r"needs the unedited model's probabilities: easy_model.json"):
        released_metrics(tmp_path)
