"""Edits along a sequence, and the health of the model: from observations to curves."""

import numpy as np
import pandas as pd
import pytest

import sequence_pages
from aftershock.metrics.abilities.curves import age_group, curves, widened
from aftershock.metrics.abilities.edits import made_at, sequence_health, sequence_scores
from aftershock.metrics.settings import Statistics
from aftershock.tables.abilities import CURVES, SEQUENCE_HEALTH, SEQUENCE_SCORES
from aftershock.tables.sequences import SEQUENCE_OBSERVATIONS, SEQUENCE_TELEMETRY
from simulated_sequences import edits_of

FEW = Statistics(resamples=100, permutations=99)
RUN = {"model": "m", "plan": "p", "editor": "e", "order": 0}


def telemetry(
    successes: list[bool], turns: list[int] | None = None, nll: list[float | None] | None = None
) -> pd.DataFrame:
    """Edits with ids from 100 down, in this order."""
    n = len(successes)
    turns, nll = turns or list(range(1, n + 1)), nll or [None] * n
    rows = [
        (i + 1, 100 - i, turns[i], successes[i], -1.0, 5, 0.1, 1.0, 0.1 * (i + 1), float(i), 2.0 + i, 3.0,
         nll[i],
         2.0, None if successes[i] else "it failed")
        for i in range(n)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(SEQUENCE_TELEMETRY.columns))


def observed(rows: list[tuple]) -> pd.DataFrame:
    """Observations from (checkpoint, edit, role, number, match, own, other)."""
    made = [(c, e, role, k, own, 1, match, other, 1) for c, e, role, k, match, own, other in rows]
    return pd.DataFrame(made, columns=list(SEQUENCE_OBSERVATIONS.columns))


EDITS = edits_of(101)
SEQUENCE = made_at({0: range(1, 1), 2: range(1, 3), 4: range(1, 5)}, {})


def scores_of(rows: pd.DataFrame, **wanted: object) -> dict[int, float]:
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return dict(zip(rows["edit_id"], rows["value"], strict=True))


def test_both_meanings_of_success_are_kept_apart():
    made_by = {2: (100, 99), 4: (100, 99, 98, 97)}
    asked = observed([(c, e, "edit", 0, c == 2, -1.0, -2.0) for c in made_by for e in made_by[c]])
    made = sequence_scores(EDITS, telemetry([True, False, True, True]), asked, SEQUENCE)
    SEQUENCE_SCORES.check(made)
    assert scores_of(made, measure="just_edited", checkpoint=2) == {100: 1.0, 99: 0.0}
    assert scores_of(made, measure="edited", checkpoint=2) == {100: 1.0, 99: 1.0}
    assert scores_of(made, measure="just_edited", checkpoint=4) == {98: 1.0, 97: 1.0}  # those since 2
    assert scores_of(made, measure="edited", checkpoint=4, latest=True) == {98: 0.0, 97: 0.0}
    assert scores_of(made, measure="edited", checkpoint=4, latest=False) == {100: 0.0, 99: 0.0}
    ages = made[(made["measure"] == "edited") & (made["checkpoint"] == 4)]
    assert dict(zip(ages["edit_id"], ages["age"], strict=True)) == {100: 3, 99: 2, 98: 1, 97: 0}


def test_edits_of_one_turn_are_of_one_age():
    asked = observed([(4, e, "edit", 0, True, -1.0, None) for e in (100, 99, 98, 97)])
    made = sequence_scores(EDITS, telemetry([True] * 4, [1, 1, 2, 2]), asked, SEQUENCE)
    assert dict(zip(made["edit_id"], made["age"], strict=True)) == {100: 2, 99: 2, 98: 0, 97: 0}


def test_a_neighbour_is_kept_if_the_unedited_model_had_it():
    before = [(True, -1.0), (True, -1.0), (False, -9.0)]  # three neighbours: the answer is theirs, its score
    after = [(True, -1.0), (False, -6.0), (True, -1.0)]
    rows = [(c, k, *row) for c, given in ((0, before), (2, after)) for k, row in enumerate(given)]
    asked = observed([(c, 100, "neighbour", k, match, own, -5.0) for c, k, match, own in rows])
    made = sequence_scores(EDITS, telemetry([True, True]), asked, SEQUENCE)
    assert scores_of(made, measure="neighbours_kept", checkpoint=2) == {100: 0.5}
    assert scores_of(made, measure="neighbours_likelier", checkpoint=2) == {100: pytest.approx(2 / 3)}


def test_checkpoints_that_start_afresh_have_their_own_edits():
    single = made_at({2: range(2, 3), 4: range(4, 5)}, {2: 1, 4: 2})
    told = telemetry([True, False]).assign(position=[2, 4], turn=[1, 2])
    asked = observed([(2, 100, "edit", 0, True, -1.0, None), (4, 99, "edit", 0, False, -1.0, None)])
    made = sequence_scores(EDITS, told, asked, single)
    assert scores_of(made, measure="edited", latest=True) == {100: 1.0, 99: 0.0}
    assert scores_of(made, measure="just_edited", checkpoint=4) == {99: 0.0}
    assert made["age"].eq(0).all()


def test_health_is_of_the_edits_since_the_checkpoint_before():
    told = telemetry([True, True, False, True], nll=[2.0, np.log(2) + 2, None, np.log(8) + 2])
    rows = sequence_health(told, SEQUENCE, {0, 2, 4}).set_index("checkpoint")
    SEQUENCE_HEALTH.check(rows.reset_index())
    assert rows.loc[0, ["perplexity", "norm", "edits"]].tolist() == [1, 0, 0]
    assert rows.loc[2, "perplexity"] == pytest.approx(2)
    jumped = rows.loc[4, ["perplexity", "jump"]]
    assert jumped.tolist() == pytest.approx([8, 4])  # from the measurement before
    assert rows.loc[4, ["edits", "failed", "norm", "condition", "seconds"]].tolist() == [4, 1, 3, 5, 12]
    assert rows.loc[4, "relative_norm"] == pytest.approx(0.4)
    assert rows["ended_at"].isna().all()


def test_a_sequence_that_ended_says_where_and_why():
    rows = sequence_health(telemetry([True, True, False]), SEQUENCE, {0, 2})
    assert list(rows["checkpoint"]) == [0, 2]
    assert rows["ended_at"].tolist() == [3, 3]
    assert set(rows["reason"]) == {"it failed"}


def test_ages_are_grouped():
    assert [age_group(age) for age in (0, 1, 9, 10, 99, 500, 1000, 5000)] == [
        "0", "1-9", "1-9", "10-49", "50-99", "500-999", "1000-", "1000-",
    ]  # fmt: skip


def test_a_curve_is_the_mean_over_edits_with_its_interval():
    asked = observed([(2, 100, "edit", 0, True, -1.0, None), (2, 99, "edit", 0, False, -1.0, None)])
    told = telemetry([True, True])
    scores = sequence_scores(EDITS, told, asked, SEQUENCE)
    rows = curves([RUN], [scores], [sequence_health(told, SEQUENCE, {0, 2})], settings=FEW)
    CURVES.check(rows)
    latest = rows[rows["measure"] == "latest"].iloc[0]
    assert (latest["value"], latest["n"], latest["orders"]) == (0.5, 2, 1)
    assert latest["low"] < 0.5 < latest["high"]
    assert pd.isna(latest["low_with_orders"])


def test_cases_among_unrelated_edits_are_curves_too():
    rows = [(0, "a", 1, 0.0), (0, "b", 2, 0.2), (10, "a", 1, 0.4), (10, "b", 2, 0.6)]
    cases = pd.DataFrame(rows, columns=["checkpoint", "cluster", "unit", "value"])
    cases["measure"] = "ignore_rate:between:round_easy"
    told = telemetry([True, True])
    empty = SEQUENCE_SCORES.empty()
    rows = curves([RUN], [empty], [sequence_health(told, SEQUENCE, {0, 2})], [cases], FEW)
    found = rows[rows["measure"] == "ignore_rate:between:round_easy"].set_index("checkpoint")["value"]
    assert found.to_dict() == pytest.approx({0: 0.1, 10: 0.5})


def test_orders_widen_an_interval():
    low, high = widened(0.5, 0.4, 0.6, np.array([0.4, 0.6]), 0.95)
    half = np.hypot(0.1, 12.7062 * np.std([0.4, 0.6], ddof=1) / np.sqrt(2))
    assert (low, high) == (pytest.approx(0.5 - half, abs=1e-4), pytest.approx(0.5 + half, abs=1e-4))
    assert np.isnan(widened(0.5, 0.4, 0.6, np.array([0.5]), 0.95)).all()


def test_the_mean_over_orders_ends_where_the_first_one_does():
    rows = sequence_pages.tables()["curves"]
    rome = rows[(rows["editor"] == "rome") & (rows["order"] == "all") & (rows["measure"] == "latest")]
    assert rome["checkpoint"].max() == 50
    assert set(rome["orders"]) == {2}
