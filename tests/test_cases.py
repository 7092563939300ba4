"""Cases built from a small graph, and invariants of every row in random graphs under any settings."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aftershock.datasets.asked import facts_of_instances, only_taught, with_labels
from aftershock.datasets.graph_facts import Context, Fact, FactIndex, as_facts
from aftershock.datasets.invariants import require, violations
from aftershock.datasets.shortfall import shortfalls
from aftershock.datasets.split import splits_of
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.kg.logic import LogicRule
from aftershock.tables.cases import CASES, EDITS, PROBES
from families import SETTINGS, dataset_of, families, frame, graph_of, instances_of
from worlds import SHARES, build_all, random_world


@pytest.mark.parametrize("dataset", DATASETS)
def test_built_cases_keep_their_invariants_fill_the_quota_and_are_always_the_same(graph, dataset):
    built, twice = (dataset_of(dataset, *graph) for _ in range(2))
    for name, table in (("cases", CASES), ("edits", EDITS), ("probes", PROBES)):
        table.check(getattr(built, name))
        pd.testing.assert_frame_equal(getattr(built, name), getattr(twice, name))
    require(dataset, built.edits, built.probes, graph[2].index)
    assert (built.cases["split"] == "test").sum() == 8
    assert built.cases["case_id"].tolist() == list(range(len(built.cases)))
    assert built.cases["strict"].all()


def test_unknown_tied_facts_make_no_composite_case(graph):
    instances, scores, context = graph
    unknown = {f for f in context.index.facts if f.relation_id == "R2" and f.subject_id.startswith("A")}
    index = FactIndex(context.index.facts, context.index.labels, context.index.facts - unknown)
    built = dataset_of("composite", instances, scores, replace(context, index=index))
    tied = built.probes[built.probes["role"] == "tied"]
    assert len(tied) == 8
    assert tied["subject_id"].str.startswith("B").all()
    assert "the model does not know the tied fact" in set(built.counts["reason"])


def test_a_relation_that_is_not_functional_gives_no_strict_case(graph):
    instances, scores, context = graph
    loose = Context(context.index, context.prompts, {"R1": 0.5, "R3": 0.5}, context.functional, 0.9, 7)
    assert dataset_of("reverse", instances, scores, loose).cases.empty
    kept = dataset_of("reverse", instances, scores, loose, strict_only=False).cases
    assert len(kept)
    assert not kept["strict"].any()


def test_first_edits_are_not_used_more_often_than_allowed(graph):
    built = dataset_of("composite", *graph, max_per_first_edit=1)
    first = built.edits[built.edits["edit"] == "e1"]
    assert not first.duplicated(["subject_id", "relation_id"]).any()


def test_controls_share_no_subject_with_their_case(graph):
    built = dataset_of("coverage", *graph)
    wide = built.edits.pivot(index="case_id", columns="edit", values=["subject_id", "target_new_id"])
    control, own = wide["subject_id"]["control"], wide["subject_id"]["e1"]
    assert control.notna().all()
    assert (control.str[1:] != own.str[1:]).all()


def test_labels_may_hold_anything(graph):
    instances, scores, context = graph
    nasty = {entity: f'{{}}{{0}} <b>"{entity}"\u202e' for entity in context.index.labels}
    index = FactIndex(context.index.facts, nasty, context.index.known)
    built = dataset_of("reverse", instances, scores, replace(context, index=index))
    assert len(built.cases) == 8
    assert built.edits["subject"].str.startswith("{}{0} <b>").all()


def test_probes_of_one_fact_share_a_number():
    built = dataset_of("coverage", *graph_of(4), split={"test": 1.0, "dev": 0.0, "train": 0.0})
    explicit, implicit = (
        built.probes[built.probes["role"] == role].set_index("case_id")["probe_id"]
        for role in ("new_exp", "new_imp")
    )
    assert (explicit == implicit).all()  # coverage: what the second edit says is what it entails


def labelled(facts, labels):
    """FACTS rows of facts."""
    table = frame(facts, kept=True, reason=None)
    return table.assign(subject=table["subject_id"].map(labels), object=table["object_id"].map(labels))


def test_facts_that_a_model_is_asked_about():
    facts, labels = families(2)
    asked = facts_of_instances(instances_of(2))
    assert set(as_facts(asked)) == {f for f in facts if f.relation_id in ("R1", "R2", "R3")}
    table = labelled(facts, labels)
    taught = table[table["subject_id"].str.startswith("A")]
    assert set(with_labels(asked, table, taught)["subject_id"]) == {"A0", "A1"}


def test_a_taught_part_of_a_graph_is_all_that_cases_are_made_of():
    facts, labels = families(3)
    rows = labelled(facts, labels)
    some = rows[rows["subject_id"] != "M2"]
    index = FactIndex.from_frames(only_taught(rows, some), frame([], known=True))
    assert index.facts == set(as_facts(some))
    assert index.objects["M2", "R1"] == ("F2",)  # true all the same


@pytest.mark.parametrize("dataset", DATASETS)
def test_tables_without_a_case_break_no_invariant(graph, dataset):
    built = dataset_of(dataset, *graph, quotas={"test": {}, "dev": {}, "train": {}})
    assert built.cases.empty
    require(dataset, built.edits, built.probes, graph[2].index)
    require(dataset, EDITS.empty(), PROBES.empty(), graph[2].index)


def test_a_fault_of_the_builder_stops_the_build(graph):
    built = dataset_of("round_easy", *graph)
    second = (built.edits["edit"] == "e2") & (built.edits["case_id"] == 3)
    other = built.edits.loc[second, ["subject_id", "subject"]].to_numpy()
    built.edits.loc[second, ["target_new_id", "target_new"]] = other
    found = violations("round_easy", built.edits, built.probes, graph[2].index)
    kinds = ["new object is the subject", "second edit does not undo the first"]
    assert found.to_numpy().tolist() == [[3, kind] for kind in kinds]
    message = r"round_easy breaks its invariants \(new object .*: 1\); first case 3"
    with pytest.raises(ValueError, match=message):
        require("round_easy", built.edits, built.probes, graph[2].index)


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
    instances = mined.instances
    true = all_true(as_facts(mined.facts), set(instances.loc[instances["kept"], "rule"]))
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


def all_true(facts: list[Fact], rules: set[str]) -> dict[tuple[str, str], set[str]]:
    """The objects of each subject and relation that are stated or follow by rules, fact by fact."""
    parsed = [LogicRule.parse(rule) for rule in rules]
    linked = {*facts}
    for rule in (rule for rule in parsed if len(rule.body) == 1):
        linked |= {Fact(o, rule.head, s) for s, r, o in facts if r == rule.body[0]}
    true: dict[tuple[str, str], set[str]] = {}
    for s, r, o in linked:
        true.setdefault((s, r), set()).add(o)
    joined = {key: set(found) for key, found in true.items()}
    for rule in (rule for rule in parsed if len(rule.body) == 2):
        for s, _, o in (fact for fact in linked if fact.relation_id == rule.body[0]):
            joined.setdefault((s, rule.head), set()).update(true.get((o, rule.body[1]), ()))
    return joined


def _rows(edits: pd.DataFrame, name: str) -> list:
    return list(edits[edits["edit"] == name].itertuples())


def _check_conflict(dataset, case, edits, probes, true) -> None:
    """Li et al.'s structure, written out."""
    (first,), (second,) = _rows(edits, "e1"), _rows(edits, "e2")
    assert first.target_true_id in true[first.subject_id, first.relation_id]
    (implied,) = probes[probes["role"] == "new_imp"].itertuples()
    for probe in (implied, *probes[probes["role"] == "neighbour_new"].itertuples()):
        assert probe.object_id not in true.get((probe.subject_id, probe.relation_id), ())
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
