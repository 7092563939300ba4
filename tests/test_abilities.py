"""Abilities along sequences: floors, metrics of many items, paired tests, what is retained."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import sequence_pages
from aftershock.metrics.abilities.abilities import abilities
from aftershock.metrics.abilities.answers import answers, entropy, item_clusters, repetition
from aftershock.metrics.abilities.collapse import collapses
from aftershock.metrics.abilities.examples import examples
from aftershock.metrics.abilities.floors import floor_of
from aftershock.metrics.abilities.many_items import OF_MANY, Noted, area, base_of
from aftershock.metrics.abilities.settings import ALL, Collapse, TaskInfo
from aftershock.metrics.settings import Statistics
from aftershock.tables.abilities import ABILITIES, ITEM_ANSWERS, ITEM_EXAMPLES, ITEM_SCORES
from aftershock.tasks.metrics import METRICS
from aftershock.tasks.scoring import combine
from simulated_sequences import SENTIMENT, SUMS, TASKS, items_of, outputs_of, scored_of, sequenced, steady

FEW = Statistics(resamples=200, permutations=999)


def counted(gold: list[str], n_choices: int = 2) -> pd.DataFrame:
    return pd.DataFrame({"gold": gold, "n_choices": n_choices})


# --- by accident ------------------------------------------------------------------------------------------
LETTERS = ["a"] * 8 + ["b"] * 6 + ["c"] * 6 + ["d"] * 5
MIXED = pd.DataFrame({"gold": ["x", "y", "z"], "n_choices": [2, 4, 4]})
FOUR = TaskInfo("t")
WORDS = TaskInfo("words", "generate", ("exact_match_of_parsed",), two_way=True, chance=0.5)
NAN = float("nan")


@pytest.mark.parametrize(
    ("task", "metric", "items", "expected"),
    [
        (SENTIMENT, "acc", counted(["no"] * 6 + ["yes"] * 4), {"chance": 0.5, "majority": 0.6, "floor": 0.6}),
        # Of many classes the commonest one counts beyond noise.
        (FOUR, "acc", counted(LETTERS, 4), {"chance": 0.25, "majority": 8 / 25, "floor": 0.25}),
        (FOUR, "acc", counted(["a"] * 70 + LETTERS, 4), {"majority": 78 / 95, "floor": 78 / 95}),
        # Chance is of each item's choices, or the task's.
        (FOUR, "acc", MIXED, {"chance": (1 / 2 + 1 / 4 + 1 / 4) / 3}),
        (TaskInfo("t", chance=0.1), "acc", MIXED, {"chance": 0.1}),
        # A constant answer has half the area, and the weighted F1 of its class: precision .6, recall 1.
        (SENTIMENT, "auc", counted(["no"] * 9 + ["yes"]), {"floor": 0.5}),
        (SENTIMENT, "weighted_f1", counted(["no"] * 6 + ["yes"] * 4), {"majority": 0.6 * 2 * 0.6 / 1.6}),
        (TaskInfo("t", "perplexity", ("perplexity",)), "perplexity", counted(["a"], 0), {"floor": NAN}),
        # A model that always says yes scores its share of what is read, as released.
        (WORDS, "exact_match_of_parsed", counted(["yes"] * 6 + ["no"] * 4, 0), {"chance": 0.5, "floor": 0.6}),
        # A guess of a rank is better than one of a place.
        (FOUR, "recall_at_2_per_token", counted(["0", "1"], 4), {"chance": 0.5}),
        (FOUR, "mrr", counted(["0", "1"], 4), {"chance": (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4}),
    ],
)
def test_the_floor_of_a_task_is_what_is_reached_by_accident(task, metric, items, expected):
    floor = vars(floor_of(task, metric, items, 0.95))
    assert {name: floor[name] for name in expected} == pytest.approx(expected, nan_ok=True)


# --- answers ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a b c d", 0.0),
        ("the the the the the", 1 - 1 / 3),  # three n-grams, one different
        ("a b c a b c", 1 - 3 / 4),
        ("aaaaa", 1 - 1 / 3),  # too few words: characters
        ("ab", np.nan),
        ("", np.nan),
        (None, np.nan),
    ],
)
def test_repetition_is_the_share_of_repeated_n_grams(text, share):
    assert repetition(text) == pytest.approx(share, nan_ok=True)


def test_entropy_counts_what_could_not_be_read_as_an_answer():
    assert entropy(pd.Series(["a", "a", "a"])) == 0
    assert entropy(pd.Series(["a", None])) == 1
    assert entropy(pd.Series(["a", "b", "c", "d"])) == 2


def test_few_groups_are_no_clusters():
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(24)], "group": ["x", "y"] * 12})
    assert item_clusters(items) == list(items["item_id"])
    items["group"] = [f"g{i % 12}" for i in range(24)]
    assert item_clusters(items) == list(items["group"])


def test_answers_of_own_choices_are_places_and_shared_ones_words():
    items = items_of(SENTIMENT, 4)
    outputs = outputs_of(SENTIMENT, items, 0, 0.0, ())  # it always says the first
    scores = scored_of(SENTIMENT, items, outputs)
    made = answers(SENTIMENT, items, outputs, scores, [False] * 4)
    ITEM_ANSWERS.check(made)
    assert set(made["prediction"]) == {"no"}
    own = TaskInfo("facts", "choice", ("acc",))
    items = items_of(own, 4)
    outputs = _first(items)
    made = answers(own, items, outputs, scored_of(own, items, outputs), [False] * 4)
    assert set(made["prediction"]) == {"0"}
    assert made["gold"].isna().all()  # so that data with the right choice always first have no majority
    assert floor_of(own, "acc", made, 0.95).floor == 0.25


def _first(items: pd.DataFrame) -> pd.DataFrame:
    """Outputs of a model that finds the first of four choices the likeliest."""
    rows = [(0, i, [-1.0, -2.0, -3.0, -4.0], [1.0] * 4, [False] * 4, None, None, 0) for i in items["item_id"]]
    columns = ["checkpoint", "item_id", "logprobs", "n_tokens", "greedy", "text", "finished", "truncated"]
    return pd.DataFrame(rows, columns=columns)


# --- metrics of many items --------------------------------------------------------------------------------
def noted_rows(seed: int, n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    classes = np.array(["a", "b", "c"])
    gold, said = classes[rng.integers(0, 3, n)], classes[rng.integers(0, 3, n)]
    parsed = rng.random(n) < 0.8
    return pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(n)],
            "group": classes[rng.integers(0, 3, n)],
            "value": np.round(rng.normal(size=n), 1),
            "parsed": parsed,
            "prediction": np.where(parsed, said, ""),
            "gold": gold,
            "hits": rng.integers(0, 2, n).astype(float),
            "found": rng.integers(1, 4, n).astype(float),
            "wanted": rng.integers(1, 4, n).astype(float),
        }
    )


@pytest.mark.parametrize("name", sorted(OF_MANY))
def test_a_weight_counts_an_item_so_often(name):
    rows = noted_rows(7, 12)
    weights = np.random.default_rng(0).integers(0, 3, (4, 12)).astype(float)
    found = OF_MANY[name](Noted.of(rows), weights)
    for weighting, value in zip(weights, found, strict=True):
        repeated = rows.loc[np.repeat(rows.index, weighting.astype(int))]
        if name == "entity_recall_released" or len(set(repeated["gold"])) == len(set(rows["gold"])):
            assert value == pytest.approx(combine(name, repeated), nan_ok=True)


def test_every_metric_that_is_no_mean_has_its_function():
    means = {name for name, metric in METRICS.items() if metric.combine.__name__ == "mean"}
    assert {base_of(name) for name in set(METRICS) - means} == set(OF_MANY)


def test_area_without_both_classes_is_empty():
    rows = noted_rows(1).assign(hits=1.0)
    assert np.isnan(area(Noted.of(rows), np.ones((1, len(rows))))[0])


def test_a_perplexity_beyond_all_numbers_is_a_large_one():
    rows = noted_rows(1, 4).assign(hits=1e6, found=1.0)
    found = OF_MANY["perplexity"](Noted.of(rows), np.ones((1, 4)))[0]
    assert found == combine("perplexity", rows) > 1e300
    assert np.isfinite(found)


# --- the table --------------------------------------------------------------------------------------------
def test_tables_of_simulated_sequences_fit_their_schemas():
    made = sequence_pages.simulated()
    for table, frames in ((ITEM_ANSWERS, made.answers), (ITEM_SCORES, made.scores)):
        for frame in frames:
            table.check(frame)
    ABILITIES.check(sequence_pages.tables()["abilities"])


def row_of(rows: pd.DataFrame, **wanted: object) -> pd.Series:
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_paired_test_of_single_items_is_mcnemars():
    made = sequenced({"half": lambda n: 1.0 if n == 0 else 0.6}, (0,), (SENTIMENT,), (0, 5), items=80)
    rows = abilities(made.runs, made.answers, made.scores, [SENTIMENT], FEW)
    row = row_of(rows, checkpoint=5, metric="acc")
    acc = made.scores[0].query("metric == 'acc'")
    wide = acc.pivot(index="item_id", columns="checkpoint", values="value")
    about = made.answers[0].query("checkpoint == 0").set_index("item_id")["about_edit"]
    wide = wide[~about]
    better, worse = int((wide[5] > wide[0]).sum()), int((wide[5] < wide[0]).sum())
    assert (row["n"], row["left_out"], row["test"]) == (76, 4, "McNemar")
    assert row["value"] == pytest.approx(wide[5].mean())
    assert row["difference"] == pytest.approx(wide[5].mean() - wide[0].mean())
    exact = binomtest(better, better + worse).pvalue
    assert row["p"] == pytest.approx(exact, abs=0.03)  # drawn where there are too many flips to count
    floor = max(0.5, row["majority"])
    assert row["retained"] == pytest.approx((row["value"] - floor) / (row["unedited"] - floor))
    assert row["retained_low"] < row["retained"] < row["retained_high"]


def test_the_unedited_model_is_not_tested_against_itself_and_retains_all():
    rows = sequence_pages.tables()["abilities"].query("checkpoint == 0 and headline")
    assert rows["p"].isna().all()
    assert (rows["difference"] == 0).all()
    assert rows.loc[rows["above_chance"].eq(True), "retained"].eq(1).all()


def test_a_task_at_the_floor_retains_nothing():
    rows = sequence_pages.tables()["abilities"].query("headline")
    weak = rows[rows["task"] == "toxic"]
    assert weak["above_chance"].eq(False).all()
    assert weak["retained"].isna().all()
    assert rows.loc[rows["task"] == "sst2", "above_chance"].eq(True).all()


def test_an_order_that_ended_leaves_no_mean_over_orders():
    rows = sequence_pages.tables()["abilities"].query("headline and checkpoint == 100 and editor == 'rome'")
    assert (rows["n"] == 0).all()
    assert rows["value"].isna().all()
    assert set(rows.loc[rows["order"] == ALL, "note"]) == {"an order was not measured here"}


def test_a_collapsed_model_is_seen_in_parsing_entropy_and_repetition():
    rows = sequence_pages.tables()["abilities"].query("editor == 'rome' and order == 'all'")
    sums = row_of(rows, task="sums", checkpoint=20)
    assert (sums["parsed"], sums["value"]) == (0, 0)
    assert sums["repetition"] > 0.5 > sums["unedited_repetition"]
    constant = row_of(rows, task="sst2", checkpoint=20, metric="acc")
    assert constant["entropy"] == 0 < constant["unedited_entropy"]
    assert abs(constant["retained"]) < 1e-9  # it scores what always saying no does
    assert row_of(rows, task="sst2", checkpoint=20, metric="auc")["value"] < 0.75


RUN = {"model": "m", "plan": "p", "editor": "e", "order": 0}


def scores_of(task, checkpoint, values, **columns):
    """ITEM_SCORES of 40 items at a checkpoint."""
    index = range(40)
    given = {"task": task.name, "checkpoint": checkpoint, "item_id": [f"i{i}" for i in index]}
    given |= {"metric": task.metrics[0], "value": values, "parsed": True}
    given |= {"gold": "", "prediction": "", "group": None}
    return pd.DataFrame(given | columns, index=index).reindex(columns=list(ITEM_SCORES.columns))


def told_of(scores):
    """The ITEM_ANSWERS that go with scores."""
    told = scores[["task", "checkpoint", "item_id", "gold", "prediction", "parsed"]]
    more = {"about_edit": False, "n_choices": 0, "repetition": np.nan, "truncated": 0}
    return told.assign(cluster=scores["item_id"], **more)


def test_a_model_of_whose_words_none_can_be_read_was_measured_and_has_lost_the_ability():
    gold = ["yes", "no"] * 20
    rows = pd.concat(
        scores_of(WORDS, n, float(n == 0), gold=gold, parsed=n == 0, prediction=gold if n == 0 else "")
        for n in (0, 5)
    )
    told = told_of(rows)
    found = abilities([RUN], [told], [rows], [WORDS], FEW)
    after = row_of(found, checkpoint=5)
    assert (after["value"], after["n"], after["retained"]) == (0, 40, -1)
    health = pd.DataFrame(columns=["checkpoint", "jump", "ended_at", "reason"])
    kinds = collapses(found, [RUN], [health], {"p": [0, 5]}, [], Collapse())
    assert row_of(kinds, task="words")["kind"] == "abrupt"


def test_p_values_allow_for_all_headline_tests_of_a_plan():
    rows = sequence_pages.tables()["abilities"].query("headline and order == 'all'").dropna(subset="p")
    ordered = rows.sort_values("p")
    m = len(ordered)
    stepped = np.minimum(1, np.maximum.accumulate(ordered["p"].to_numpy() * np.arange(m, 0, -1)))
    assert ordered["p_adjusted"].to_numpy() == pytest.approx(stepped)


def test_texts_retain_the_ratio_of_perplexities():
    task = TaskInfo("text", "perplexity", ("perplexity",))
    scores = pd.concat(
        scores_of(task, n, values, hits=10 * values, found=10.0)
        for n, values in ((0, 2.0 + 0.005 * np.arange(40)), (5, 3.0 + 0.005 * np.arange(40)))
    )
    found = abilities([RUN], [told_of(scores)], [scores], [task], FEW).set_index("checkpoint").loc[5]
    assert found["value"] == pytest.approx(np.exp(3.0975))
    assert found["retained"] == pytest.approx(np.exp(-1.0))
    assert pd.isna(found["above_chance"])


# --- items to look at -------------------------------------------------------------------------------------
def test_examples_are_the_same_items_for_every_editor():
    items = items_of(SUMS, 30)
    drawn = []
    for kept in (1.0, 0.0):
        outputs = outputs_of(SUMS, items, 0, kept, ())
        made = examples(SUMS, items, outputs, scored_of(SUMS, items, outputs), 5, 0)
        ITEM_EXAMPLES.check(made)
        drawn.append(sorted(made["item_id"]))
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 5
    assert not made["prediction"].notna().any()  # nothing could be read of the broken one


def test_nothing_lost_is_nowhere_called_a_loss():
    made = sequenced({"still": steady}, (0,), TASKS, (0, 10), items=40)
    rows = abilities(made.runs, made.answers, made.scores, TASKS, FEW)
    assert not rows["significant"].eq(True).any()
    able = rows[rows["headline"] & rows["above_chance"].eq(True)]
    assert able["retained"].eq(1).all()
    assert (able["retained_low"] < 1).all()  # the items that were asked are not all there are
