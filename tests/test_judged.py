"""Exact match beside a judge's verdicts, against numbers worked out by hand."""

import pandas as pd
import pytest

from aftershock.metrics.abilities.judged import judged_answers
from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.metrics.settings import Statistics
from aftershock.page.listed import listed
from aftershock.tables.abilities import ITEM_ANSWERS, ITEM_SCORES, JUDGED_ANSWERS
from aftershock.tables.sequences import TASK_VERDICTS

TASK = TaskInfo("wild", "generate", ("exact_match", "f1"))
RUN = {"model": "m", "plan": "p", "editor": "rome", "order": 0}
FEW = Statistics(resamples=200, permutations=99)
EXACT = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 1.0, "e": 0.0, "f": 1.0}
SAID = {"a": True, "b": True, "c": False, "d": False, "e": None, "f": True}  # f asks about an edited fact


def verdicts(said, checkpoint=10):
    rows = [(checkpoint, item, correct, "judge", "hash", "wild") for item, correct in said.items()]
    columns = [*TASK_VERDICTS.columns, "task"]
    return pd.DataFrame(rows, columns=columns).astype({"correct": "boolean"})


def filled(table, **columns):
    empty = table.empty()
    rows = pd.DataFrame({name: columns.get(name) for name in empty.columns}, index=range(len(EXACT)))
    return rows


def observed(about=("f",), checkpoint=10):
    items, values = list(EXACT), list(EXACT.values())
    answers = filled(
        ITEM_ANSWERS, task="wild", checkpoint=checkpoint, item_id=items, cluster=items,
        about_edit=[item in about for item in items],
    )  # fmt: skip
    scores = filled(ITEM_SCORES, task="wild", checkpoint=checkpoint, item_id=items, metric="exact_match")
    return answers, scores.assign(value=values)


def table(*said):
    runs = [{**RUN, "order": order} for order in range(len(said))]
    answers, scores = observed()
    return judged_answers(
        runs, [verdicts(each) for each in said], [answers] * len(said), [scores] * len(said), [TASK], FEW
    )


def test_shares_and_agreement_by_hand():
    (row,) = table(SAID).to_dict("records")
    JUDGED_ANSWERS.check(table(SAID))
    assert row["exact"] == 2 / 5  # a, d of a to e
    assert row["judged"] == 2 / 4  # a, b of those with a verdict
    assert row["agreement"] == 2 / 4  # a and c
    assert row["kappa"] == pytest.approx((0.5 - 0.5) / (1 - 0.5))
    assert (row["n"], row["unjudged"], row["orders"], row["judge"]) == (5, 1, 1, "judge")
    assert row["low"] < row["judged"] < row["high"]


def test_orders_are_put_together_and_two_judges_are_not():
    other = {item: correct if correct is None else True for item, correct in SAID.items()}
    (row,) = table(SAID, other).to_dict("records")
    assert (row["judged"], row["n"], row["orders"]) == (6 / 8, 10, 2)
    answers, scores = observed()
    two = pd.concat([verdicts(SAID), verdicts(other).assign(judge="another")])
    found = judged_answers([RUN], [two], [answers], [scores], [TASK], FEW)
    assert found.set_index("judge")["judged"].to_dict() == {"judge": 0.5, "another": 1.0}


def test_a_judge_that_always_says_the_same_has_no_kappa_and_scores_between_no_agreement():
    (row,) = table(dict.fromkeys(EXACT, True)).to_dict("records")
    assert row["agreement"] == 2 / 5
    assert pd.isna(row["kappa"])
    answers, scores = observed()
    shares = scores.assign(value=scores["value"] * 0.7)
    (row,) = judged_answers([RUN], [verdicts(SAID)], [answers], [shares], [TASK], FEW).to_dict("records")
    assert row["exact"] == pytest.approx(0.28)
    assert pd.isna(row["agreement"])
    assert pd.isna(row["kappa"])


def test_verdicts_are_a_table_of_the_page():
    ((section, made),) = listed({"judged_answers": table(SAID)}, [])
    assert section == "abilities"
    assert {"judge", "hash"} <= {word for column in made["columns"] for word in column.get("words", ())}
