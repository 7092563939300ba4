"""Invariants of every built row, in random graphs and under any settings."""

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aftershock.datasets.invariants import require
from aftershock.datasets.shortfall import shortfalls
from aftershock.datasets.split import splits_of
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.kg.logic import LogicRule
from aftershock.tables.cases import CASES, EDITS, PROBES
from families import SETTINGS, dataset_of, graph_of
from worlds import SHARES, build_all, random_world

CHOICES = st.fixed_dictionaries(
    {
        "strict_only": st.booleans(),
        "balance_targets": st.booleans(),
        "max_per_first_edit": st.integers(1, 3),
        "max_per_tied_fact": st.none() | st.integers(1, 2),
        "max_per_object": st.none() | st.integers(1, 3),
        "min_known_objects": st.integers(1, 3),
        "object_counts": st.sampled_from(["matched", "paper", {2: 1, 3: 2}]),
    }
)


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@given(st.integers(0, 10_000), CHOICES)
def test_every_row_keeps_what_published_rows_keep(seed, choices):
    mined = random_world(seed)
    quotas = {"test": dict.fromkeys(DATASETS, 6), "dev": dict.fromkeys(DATASETS, 3), "train": {"reverse": 2}}
    asked = SETTINGS | choices | {"quotas": quotas, "split": SHARES}
    index, splits = mined.context().index, splits_of(mined.division())
    true = {}
    for row in mined.facts.itertuples():
        true.setdefault((row.subject_id, row.relation_id), set()).add(row.object_id)
    for dataset, tables in build_all(mined, asked).items():
        CASES.check(tables.cases), EDITS.check(tables.edits), PROBES.check(tables.probes)
        if len(tables.cases):
            require(dataset, tables.edits, tables.probes, index)
        for case in tables.cases.itertuples():
            edits = tables.edits[tables.edits["case_id"] == case.case_id]
            probes = tables.probes[tables.probes["case_id"] == case.case_id]
            check = _check_conflict if dataset in CONFLICT else _check_round
            check(dataset, case, edits, probes, true)
            _check_targets(dataset, case, edits, true, splits, index)
        kept = tables.counts[tables.counts["reason"] == "kept"].groupby("split")["candidates"].sum()
        for split, wanted in quotas.items():
            short = [line for line in shortfalls(dataset, tables.counts, quotas) if f", {split}: " in line]
            assert len(short) == (kept[split] < wanted.get(dataset, 0))


def _rows(edits: pd.DataFrame, name: str) -> list:
    return list(edits[edits["edit"] == name].itertuples())


def _check_conflict(dataset, case, edits, probes, true) -> None:
    """Li et al.'s structure, written out."""
    (first,), (second,) = _rows(edits, "e1"), _rows(edits, "e2")
    assert first.target_true_id in true[first.subject_id, first.relation_id]
    (implied,) = probes[probes["role"] == "new_imp"].itertuples()
    assert implied.object_id not in true.get((implied.subject_id, implied.relation_id), ())
    if dataset == "coverage":
        assert (second.subject_id, second.relation_id) == (first.subject_id, first.relation_id)
        assert second.target_true_id == first.target_new_id
        assert second.target_new_id not in (first.target_new_id, first.target_true_id)
        return
    rule = LogicRule.parse(case.rule)
    assert second.relation_id == rule.head
    if dataset == "reverse":
        assert first.relation_id == rule.body[0]
        assert (second.subject_id, second.target_true_id) == (first.target_new_id, first.subject_id)
        assert second.target_new_id not in (first.subject_id, first.target_new_id)
        return
    (tied,) = probes[probes["role"] == "tied"].itertuples()
    assert (tied.relation_id, first.relation_id) == rule.body
    assert (tied.subject_id, tied.object_id) == (second.subject_id, first.subject_id)
    assert tied.object_id in true[tied.subject_id, tied.relation_id]
    assert second.target_true_id == first.target_true_id
    assert second.target_new_id not in (first.target_true_id, first.target_new_id)


def _check_round(dataset, case, edits, probes, true) -> None:
    (first,), (second,), every = (_rows(edits, name) for name in ("e1", "e2", "multi"))
    assert (second.target_new_id, second.target_true_id) == (first.target_true_id, first.target_new_id)
    assert first.target_true_id in {row.target_new_id for row in every}
    assert {row.target_new_id for row in every} <= true[first.subject_id, first.relation_id]
    assert len(every) == case.n_objects >= case.n_known
    assert case.rule == f"1-N@{first.relation_id}"
    assert not any(row.target_new.casefold() == first.target_new.casefold() for row in every)


def _check_targets(dataset, case, edits, true, splits, index) -> None:
    """Never true, never what was there, never the subject, by id or label; of the right kind and split."""
    for row in edits[edits["edit"].isin(["e1", "e2", "control"])].itertuples():
        if dataset not in CONFLICT and row.edit == "e2":
            continue
        facts = true.get((row.subject_id, row.relation_id), set())
        labels = {index.labels[e].casefold() for e in (row.subject_id, *facts) if e in index.labels}
        assert row.target_new_id not in facts
        assert row.target_new.casefold() not in labels | {row.target_true.casefold()}
        assert row.target_new_id in index.pools[row.relation_id]
        assert splits.get(row.target_new_id, case.split) == case.split
        assert splits[row.subject_id] == case.split


# --- what follows from what --------------------------------------------------------------------------------
def test_what_is_deduced_and_what_is_abduced(graph):
    assert set(dataset_of("coverage", *graph).cases["implied"]) == {"stated"}
    assert set(dataset_of("reverse", *graph).cases["implied"]) == {"deduced"}  # marriage is its own converse
    assert set(dataset_of("composite", *graph).cases["implied"]) == {"abduced"}
    assert dataset_of("round_easy", *graph).cases["implied"].isna().all()
    assert graph[2].inference("R2>R6") == "abduced"


# --- too few -----------------------------------------------------------------------------------------------
def test_too_few_cases_are_said_with_what_to_relax(graph):
    instances, scores, context = graph
    many = {"test": dict.fromkeys(DATASETS, 500), "dev": {}, "train": {}}
    lines = {
        name: list(shortfalls(name, dataset_of(name, instances, scores, context, quotas=many).counts, many))
        for name in DATASETS
    }
    assert {name: len(found) for name, found in lines.items()} == dict.fromkeys(DATASETS, 1)
    assert lines["reverse"][0].startswith(
        "reverse, test: 24 of 500 cases found (fewest of R1>R1 24). No candi"
    )
    assert lines["reverse"][0].endswith("; or ask for fewer in cases.quotas.test.reverse.")
    unknown = scores.assign(known=~scores.duplicated(["subject_id", "relation_id"]))
    tables = dataset_of("round_hard", instances, unknown, context, quotas=many)
    (line,) = shortfalls("round_hard", tables.counts, many)
    assert line.startswith(
        "round_hard, test: 0 of 500 cases found (fewest of 1-N@R4 0). 12 dropped because fewer"
    )
    assert "try a lower cases.min_known_objects" in line


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_graph_without_a_candidate_gives_empty_tables(dataset):
    instances, scores, context = graph_of(4)
    tables = dataset_of(dataset, instances.assign(kept=False), scores.iloc[:0], context)
    CASES.check(tables.cases), EDITS.check(tables.edits), PROBES.check(tables.probes)
    assert tables.cases.empty
    lines = list(shortfalls(dataset, tables.counts, SETTINGS["quotas"]))
    assert lines[0].startswith(f"{dataset}, test: 0 of 8 cases found (no rule has a candidate).")
