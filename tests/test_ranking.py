"""Ranks of methods: by hand, against loops, on data with a known best and with ties, and on faulty data."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

import sequence_pages
from aftershock.metrics.intervals import wilson
from aftershock.metrics.ranking.questions import BY_NAME, QUESTIONS
from aftershock.metrics.ranking.ranking import ONE_CLUSTER, ranking
from aftershock.metrics.ranking.ranks import Measured, common, rank
from aftershock.metrics.ranking.samples import SequenceRuns, joined_clusters, of_cases, of_sequences, of_times
from aftershock.metrics.settings import Statistics
from aftershock.seeds import generator
from aftershock.tables.report import RANKS
from simulate import block_of, cases_of, run_of

QUICK = Statistics(resamples=300)


def slow_ranks(measures, better, names, settings):
    """(rank, low, high), values, half-widths and detectable differences by pair, in loops."""
    methods = measures[0].values.shape[1]
    draws, value = np.zeros((settings.resamples, methods)), np.zeros(methods)
    fewest = min(len(set(m.clusters[~np.isnan(m.values[:, 0])])) for m in measures)
    for measure in measures:
        labels = sorted(set(measure.clusters))
        rows = [[i for i, c in enumerate(measure.clusters) if c == label] for label in labels]
        rng = generator(settings.seed, "resamples", *names, measure.population)
        drawn = np.concatenate(
            [
                rng.integers(0, len(labels), (min(256, settings.resamples - start), len(labels)))
                for start in range(0, settings.resamples, 256)
            ]
        )
        for method in range(methods):
            value[method] += np.nanmean(measure.values[:, method]) / len(measures)
            for b, places in enumerate(drawn):
                found = [measure.values[i, method] for place in places for i in rows[place]]
                seen = [v for v in found if not np.isnan(v)]  # none: the observed mean
                draws[b, method] += np.mean(seen or [np.nanmean(measure.values[:, method])]) / len(measures)
    quantile = (1 + settings.level) / 2
    widening = np.sqrt(fewest / (fewest - 1)) * t.ppf(quantile, fewest - 1) / norm.ppf(quantile)
    pairs = [(j, k) for j in range(methods) for k in range(methods) if j < k]
    moved = {(j, k): draws[:, j] - draws[:, k] - (value[j] - value[k]) for j, k in pairs}
    error = {pair: np.sqrt(np.mean(of**2)) for pair, of in moved.items()}
    largest = [max(abs(moved[p][b]) / error[p] for p in pairs) for b in range(settings.resamples)]
    critical = widening * np.quantile(largest, settings.level, method="higher")
    sign, ranks = (1 if better == "up" else -1), []
    for j in range(methods):
        better_ones = [k for k in range(methods) if sign * (value[k] - value[j]) > 1e-12]
        beyond = [
            k for k in range(methods)
            if k != j and abs(value[j] - value[k]) > critical * error[min(j, k), max(j, k)]
        ]  # fmt: skip
        ahead = [k for k in beyond if k in better_ones]
        ranks.append((1 + len(better_ones), 1 + len(ahead), methods - (len(beyond) - len(ahead))))
    half = {pair: critical * error[pair] for pair in pairs}
    detectable = {}
    for j, k in pairs:
        noise = widening * (moved[j, k] if value[j] >= value[k] else -moved[j, k])
        detectable[j, k] = half[j, k] - np.quantile(noise, 1 - settings.power)
    return ranks, value, half, detectable


def made(means, n=60, clusters=20, spread=0.2, seed=0, population="coverage"):
    """Values around `means`, with an effect of each cluster that all methods share."""
    rng = np.random.default_rng(seed)
    code = np.arange(n) % clusters
    shared = rng.normal(0, spread, clusters)[code]
    values = np.array(means) + shared[:, None] + rng.normal(0, spread, (n, len(means)))
    return Measured(population, code, values)


@pytest.mark.parametrize("better", ["up", "down"])
@pytest.mark.parametrize("clusters", [3, 20])
def test_ranks_are_those_of_a_loop(better, clusters):
    first = made([0.5, 0.8, 0.55, 0.2], clusters=clusters)
    holey = np.where(np.arange(60)[:, None] % 3, first.values**2, np.nan)
    second = Measured("coverage", first.clusters, holey)
    third = made([0.1, 0.2, 0.3, 0.4], n=30, clusters=clusters, seed=1, population="round_easy")
    measures = [first, second, third]
    few = Statistics(resamples=40)
    ranks, value, half, detectable = slow_ranks(measures, better, ("m",), few)
    found = rank(measures, better, ("m",), few)
    assert found.value == pytest.approx(value)
    assert list(zip(found.rank, found.low, found.high, strict=True)) == ranks
    assert (found.n, found.clusters) == (60 + 30, 2 * clusters)
    for method, other in enumerate(found.other):
        pair = min(method, other), max(method, other)
        assert found.half[method] == pytest.approx(half[pair])
        assert found.detectable[method] == pytest.approx(detectable[pair])
        assert found.difference[method] == pytest.approx(value[method] - value[other])


def best_of(measures, better="up", names=("m",)):
    return rank(measures, better, names, QUICK)


def test_a_known_best_wins_and_a_tie_has_no_winner():
    best = best_of([made([0.9, 0.5, 0.5, 0.1])])
    assert (best.rank[0], best.low[0], best.high[0]) == (1, 1, 1)
    assert (best.rank[3], best.low[3], best.high[3]) == (4, 4, 4)
    assert [tuple(pair) for pair in zip(best.low[1:3], best.high[1:3], strict=True)] == [(2, 3), (2, 3)]
    assert list(best.other) == [np.flatnonzero(best.rank == 2)[0], 0, 0, 0]
    tied = best_of([made([0.5, 0.5, 0.5])])
    assert set(tied.low) == {1}
    assert set(tied.high) == {3}


def test_methods_that_agree_in_every_case_are_tied_however_few_there_are():
    values = np.ones((12, 2))
    found = best_of([Measured("coverage", np.arange(12), values)])
    unseen = wilson(0.0, 12)[1]
    assert list(found.rank) == [1, 1]
    assert list(found.high) == [2, 2]
    assert found.half[0] == pytest.approx(unseen)
    assert found.detectable[0] == pytest.approx(unseen / (1 - unseen))
    apart = best_of([Measured("coverage", np.arange(12), values * [1, 0])])
    assert list(apart.high) == [1, 2]
    few = best_of([Measured("coverage", np.arange(2), np.array([[1.0, 0.0]] * 2))])
    assert list(few.high) == [2, 2]  # two clusters rule out little


def test_one_method_and_forty_have_ranks():
    alone = best_of([made([0.5])])
    assert (alone.rank[0], alone.low[0], alone.high[0], alone.other[0]) == (1, 1, 1, -1)
    many = best_of([made(np.linspace(0, 4, 40))], "down")
    assert list(many.rank) == list(range(1, 41))
    assert (many.low <= many.rank).all()
    assert (many.rank <= many.high).all()


def test_methods_with_few_values_are_left_out_and_the_others_share_their_cases():
    values = np.ones((10, 3))
    values[:6, 1], values[0, 2] = np.nan, np.nan
    enough, (shared,) = common([Measured("d", np.arange(10), values)])
    assert list(enough) == [True, False, True]
    assert np.isnan(shared.values).all(1).tolist() == [True] + [False] * 9


# --- the table --------------------------------------------------------------------------------------------
def ranked(values, question="write", clusters=None, dataset="coverage"):
    rows = ranking(of_cases(block_of(values, cases_of(12, clusters), dataset)), QUICK)
    RANKS.check(rows)
    return rows[rows["question"] == question].set_index("editor")


def test_a_question_names_its_metrics_its_direction_and_what_methods_write():
    good = {"single_exact": [1.0] * 12, "single_neighbours_kept": [0.5] * 6 + [0.0] * 6}
    bad = {"single_exact": [0.0] * 12, "single_neighbours_kept": [1.0] * 12}
    rows = ranked({"rome": good, "ft": bad})
    about = rows.loc["rome", ["metrics", "place", "better", "rank"]]
    assert about.tolist() == ["single_exact", "coverage", "up", 1]
    assert rows.loc["rome", "winner"]
    kept = ranked({"rome": good, "ft": bad}, "keep")
    assert kept.loc["ft", "rank"] == 1
    assert kept.loc["ft", "written"] == 0.0
    assert kept.loc["rome", "other"] == "ft"
    assert kept.loc["rome", "difference"] == pytest.approx(-0.75)


def test_a_run_without_single_edits_is_asked_about_first_ones():
    rows = ranked({"rome": {"e1_exact": [1.0] * 12}}, dataset="reverse")
    assert rows.loc["rome", ["metrics", "place"]].tolist() == ["e1_exact", "reverse"]
    assert not rows.loc["rome", "winner"]  # there is nothing to win against


def test_methods_without_values_keep_their_rows_and_the_reason():
    some = {"single_exact": [1.0, 0.0] * 6}
    rows = ranked({"rome": some, "ft": {"single_exact": [None] * 12}, "kn": {"single_exact": [1.0] * 2}})
    assert rows.loc["ft", "note"] == "not ranked: no value"
    assert rows.loc["kn", "note"] == "not ranked: 2 of 12 values"
    assert rows["rank"].isna().tolist() == [False, True, True]
    one = ranked({"rome": some, "ft": {"single_exact": [0.0] * 12}}, clusters=[0] * 12)
    assert set(one["note"]) == {ONE_CLUSTER}
    assert one["may_be_best"].all()


def test_datasets_that_share_subjects_are_drawn_together():
    effect = np.random.default_rng(0).normal(0, 1, 40)
    given = {"rome": {"distortion": list(effect + 0.2)}, "ft": {"distortion": [0.0] * 40}}
    blocks = [b for name in ("round_easy", "round_hard") for b in block_of(given, cases_of(40), name)]
    others = blocks[1].cases.assign(subject_id=[f"F{i}" for i in range(40)])
    width = {}
    for name, second in (("shared", blocks[1]), ("apart", replace(blocks[1], cases=others))):
        rows = ranking(of_cases([blocks[0], second]), Statistics(resamples=2000))
        row = rows[(rows["question"] == "undo") & (rows["editor"] == "ft")].iloc[0]
        width[name] = row["difference_high"] - row["difference_low"]
        assert (row["n"], row["clusters"]) == (80, 40 if name == "shared" else 80)
    assert width["shared"] / width["apart"] == pytest.approx(np.sqrt(2), rel=0.1)


def test_clusters_are_one_where_a_subject_is_in_both():
    first = np.array([0, 0, 1, 2]), np.array(["a", "b", "c", "d"])
    second = np.array([0, 1, 1, 2]), np.array(["c", "a", "e", "f"])
    found = joined_clusters(*zip(first, second, strict=True))
    groups = [np.flatnonzero(found == code).tolist() for code in np.unique(found)]
    assert sorted(groups) == [[0, 1, 5, 6], [2, 4], [3], [7]]


def test_methods_without_a_case_in_common_have_no_ranks():
    some, none = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0], [None] * 6
    rows = ranked({"rome": {"single_exact": [*some, *none]}, "ft": {"single_exact": [*none, *some]}})
    assert rows[["rank", "value"]].isna().all(axis=None)
    assert not rows["may_be_best"].any()
    assert set(rows["note"]) == {"not ranked: 6 of 12 values, and none that all methods share"}


def test_many_edits_are_ranked_where_a_run_has_sequences():
    given, abilities = sequence_pages.simulated(), sequence_pages.tables()["abilities"]
    observed = given.sequence_scores, given.health, given.answers, given.scores
    runs = SequenceRuns(given.runs, *observed, sequence_pages.TASKS, abilities)
    rows = ranking(of_sequences(runs), QUICK)
    RANKS.check(rows)
    held, able = (rows[rows["question"] == name].set_index("editor") for name in ("many_edits", "abilities"))
    last = [s[(s["checkpoint"] == 100) & (s["measure"] == "edited")] for s in given.sequence_scores]
    mine = [s for run, s in zip(given.runs, last, strict=True) if run["editor"] == "alphaedit"]
    assert held.loc["alphaedit", "value"] == pytest.approx(pd.concat(mine)["value"].mean())
    assert held.loc["rome", "note"] == "not ranked: no value; a sequence ended after 60 edits"
    shown = abilities.query("order == 'all' and headline and checkpoint == 100 and editor == 'alphaedit'")
    shown = shown[shown["above_chance"].eq(True)]
    assert able.loc["alphaedit", "value"] == pytest.approx(shown["retained"].mean())
    assert list(of_sequences(SequenceRuns())) == []


def test_cost_is_the_time_of_jobs_without_loading():
    runs = [run_of(d, editor) for d in ("coverage", "reverse", "composite") for editor in ("rome", "ft")]
    times = [
        {"rule": "edit", "seconds": 110.0 if run["editor"] == "rome" else 60.0, "began": [10.0, 0],
         "wildcards": {"kg": "world", "shard": "00000-00009", **{k: str(v) for k, v in run.items()}}}
        for run in runs
    ]  # fmt: skip
    rows = ranking(of_times(runs, times, "world", SequenceRuns()), QUICK).set_index("editor")
    RANKS.check(rows.reset_index())
    assert np.exp(rows["value"].to_dict()["ft"]) == pytest.approx(5.0)
    assert np.exp(rows.loc["rome", "difference"]) == pytest.approx(2.0)
    assert rows.loc["ft", "rank"] == 1
    assert rows["n"].tolist() == [3, 3]
    assert list(of_times(runs, [], "world", SequenceRuns())) == []


def test_a_run_of_sequences_alone_has_their_seconds():
    given = sequence_pages.simulated()
    runs = SequenceRuns(given.runs, given.sequence_scores, given.health)
    rows = ranking(of_times([], [], "world", runs), QUICK).set_index("editor")
    assert set(rows["metrics"]) == {"seconds per edit"}
    mine = [h for run, h in zip(given.runs, given.health, strict=True) if run["editor"] == "alphaedit"]
    last = pd.DataFrame([h.loc[h["checkpoint"].idxmax()] for h in mine])
    seconds = (last["seconds"] / last["edits"]).astype(float)
    assert rows.loc["alphaedit", "value"] == pytest.approx(np.log(seconds).mean())


def test_questions_are_whole():
    assert len(BY_NAME) == len(QUESTIONS)
    assert {question.better for question in QUESTIONS} == {"up", "down"}
    assert all(question.unit in ("percent", "nats", "seconds") for question in QUESTIONS)
