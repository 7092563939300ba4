"""Names that a model cannot tell apart, and facts that are true though no row says so."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pytest

from aftershock.datasets.conflict import propose
from aftershock.datasets.edit_files.from_graph import graph_edits
from aftershock.datasets.graph_facts import Fact, FactIndex
from aftershock.datasets.invariants import require
from aftershock.datasets.probes import Neighbours
from aftershock.datasets.round_edit import RoundSelection, candidates, choose
from aftershock.datasets.split import split_entities, splits_of
from aftershock.datasets.table import DATASETS
from aftershock.datasets.targets import Targets
from aftershock.kg.filters import Names, filter_facts, filter_objects
from aftershock.seeds import generator
from families import context_of, dataset_of, families, frame, instances_of, scores_of
from graphs import WORLD, as_instances, as_labels, as_sample, rows_of

COMPOSED, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"
ALL_TEST = {"split": {"test": 1.0, "dev": 0.0, "train": 0.0}, "strict_only": False}


def named(*labels: str) -> Names:
    return Names(as_labels((f"E{i}", label, "en", None) for i, label in enumerate(labels, start=1)), WORLD)


# --- names ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("twin", ["rock MUSIC", "rock  music", "\uff52ock music"])
def test_objects_whose_names_differ_in_case_or_form_only_are_one(twin: str) -> None:
    names = named("Ada", "rock music", twin, "jazz")
    kept, dropped = filter_objects(as_sample([("E1", "R1", f"E{i}") for i in (2, 3, 4)]), names)
    assert rows_of(kept, "object_id") == {("E2",), ("E4",)}
    assert dropped == {"duplicate label among the true objects": 1}
    facts = filter_facts(as_sample([("E1", "R1", "E2"), ("E1", "R1", "E3"), ("E2", "R1", "E3")]), names)
    twins = ["duplicate label among the true objects", "two entities with the same label"]
    assert facts["reason"].tolist() == [None, *twins]


def test_a_graph_with_such_objects_builds_round_cases() -> None:
    facts, labels = families(24)
    labels |= {f"W{i}": f"LABEL W{i - 1}" for i in (1, 3, 5)}  # those before are called Label W0 and so on
    names = Names(as_labels((entity, name, "en", None) for entity, name in labels.items()), WORLD)
    table = filter_facts(frame(facts), names)
    index = FactIndex.from_frames(table, table[table["kept"]].assign(known=True))
    context = replace(context_of(facts, labels), index=index)
    kept, _ = filter_objects(scores_of(facts)[["subject_id", "relation_id", "object_id"]], names)
    built = dataset_of("round_easy", instances_of(24), kept.merge(scores_of(facts)), context)
    assert len(built.cases)
    require("round_easy", built.edits, built.probes, index)


def test_no_false_object_has_a_true_name_in_another_form() -> None:
    labels = {"S": "s", "T": "t", "A": COMPOSED, "B": DECOMPOSED, "C": "CAF\u00c9", "D": "other"}
    facts = frozenset([Fact("S", "R", "A"), *(Fact("T", "R", o) for o in "BCD")])
    for balance in (False, True):
        targets = Targets(FactIndex(facts, labels), {}, "test", balance)
        assert {targets.draw("S", "R", (), generator(i)) for i in range(20)} == {"D"}


def test_no_false_object_has_the_name_of_a_true_one_that_was_dropped() -> None:
    rows = frame([Fact("S", "R", "A"), Fact("T", "R", "B"), Fact("T", "R", "D")], reason=None)
    rows = rows.assign(subject=["s", "t", "t"], object=["one", "One", "two"], kept=[False, True, True])
    targets = Targets(FactIndex.from_frames(rows, frame([], known=True)), {}, "test")
    assert {targets.draw("S", "R", (), generator(i)) for i in range(20)} == {"D"}


@pytest.mark.parametrize("seed", range(5))
def test_namesakes_share_a_split(seed: int) -> None:
    pairs = [(f"X{i}", f"Y{i}") for i in range(30)]
    rows = [("R2&R1>R3", x, y, "Z", True, None) for x, y in pairs]
    instances = pd.DataFrame(rows, columns=["rule", "x_id", "y_id", "z_id", "kept", "reason"])
    facts = frame([Fact(x, "R2", y) for x, y in pairs], kept=True, object=None)
    facts["subject"] = [f"{('Jane', 'JANE')[i % 2]} Doe {i // 3}" for i in range(30)]
    table = split_entities(instances, frame([]), facts, {"test": 0.5, "dev": 0.5}, seed)
    splits = splits_of(table)
    assert set(splits) == {entity for pair in pairs for entity in pair}
    for i in range(0, 30, 3):
        assert len({splits[entity] for pair in pairs[i : i + 3] for entity in pair}) == 1
    assert set(splits.values()) == {"test", "dev"}
    assert table.set_index("entity_id").loc["X2", "component"] == "X0"


# --- neighbours -------------------------------------------------------------------------------------------
def test_neighbours_have_other_names_and_facts_that_an_edit_can_spoil() -> None:
    labels = {"S": "Ann", "T": "ann", "U": "Bo", "V": "Cy", "W": "Di"} | {o: o for o in "ABC"}
    facts = [Fact("S", "R", "A"), Fact("T", "R", "B"), Fact("U", "R", "C"), Fact("V", "R", "B")]
    facts += [Fact("W", "R", "B"), Fact("W", "R", "C")]
    near = Neighbours(FactIndex(frozenset(facts), labels), {})
    # T is called like S, and of U and W it is true what an edit of S writes.
    assert near.draw("S", "R", 9, generator(0), "C") == [Fact("V", "R", "B")]


def test_controls_are_about_others_than_namesakes() -> None:
    facts, labels = families(6)
    for i in range(1, 6):  # every family but two has the names of the first one
        labels |= {f"{who}{i}": f"LABEL {who}0" for who in "MFAB" if i != 3}
    given = instances_of(6), scores_of(facts), context_of(facts, labels)
    for dataset in ("coverage", "composite", "round_easy", "round_hard"):
        built = dataset_of(dataset, *given, **ALL_TEST)
        about = built.edits[built.edits["edit"].isin(["e1", "e2"])].groupby("case_id")["subject"]
        own = about.agg(lambda names: {name.upper() for name in names})
        lent = built.edits[built.edits["edit"] == "control"].set_index("case_id")["subject"]
        asked = built.probes[built.probes["role"] == "control_object"].set_index("case_id")["subject"]
        for case_id, name in pd.concat([lent, asked]).items():
            assert name.upper() not in own[case_id]


# --- what rules say ---------------------------------------------------------------------------------------
def test_what_the_second_edit_entails_is_false() -> None:
    facts = frozenset(
        [Fact("X", "R1", "Y"), Fact("Y", "R2", "Z"), Fact("X", "R3", "Z"), Fact("Y", "R2", "V")]
    )
    avoided: list[tuple[str, str, set[str]]] = []

    def draw(subject_id: str, relation_id: str, avoid: Sequence[str]) -> str:
        avoided.append((subject_id, relation_id, set(avoid)))
        return f"N{len(avoided)}"

    instances = as_instances(("R1&R2>R3", "X", "Y", "Z"))
    ((_, case),) = propose("composite", instances, FactIndex(facts, {}), draw)
    assert avoided == [("Y", "R2", {"X", "Z"}), ("X", "R3", {"Y", "Z", "N1", "V"})]
    assert case.implicit == Fact("Y", "R2", "N2")


def test_nor_is_what_a_reverse_edit_entails_true_by_a_chain() -> None:
    facts = [Fact("X", "R1", "Y"), Fact("Y", "R2", "X"), Fact("C", "R3", "D"), Fact("D", "R4", "N")]
    index = FactIndex(frozenset(facts), {}).with_rules(["R3&R4>R1"])  # so C R1 N

    def draw(subject_id: str, relation_id: str, avoid: Sequence[str]) -> str:
        return "N" if subject_id == "X" else next(o for o in "CE" if o not in avoid)

    ((_, case),) = propose("reverse", as_instances(("R1>R2", "X", "Y", "X")), index, draw)
    assert (case.second.new, case.implicit) == (Fact("N", "R2", "E"), Fact("E", "R1", "N"))


def test_rules_say_what_is_true_of_their_heads() -> None:
    facts = [Fact("C", "R2", "P"), Fact("D", "R2", "P"), Fact("P", "R4", "C"), Fact("P", "R1", "Q")]
    index = FactIndex(frozenset(facts), {}).with_rules(["R2>R4", "R2&R1>R3", "R4&R5>R6", "R1>R1"])
    assert index.true_of("P", "R4") == {"C", "D"}  # of P only one child is told
    assert index.true_of("C", "R2") == {"P"}
    assert index.true_of("C", "R3") == {"Q"}  # the mother's spouse, as a chain says
    assert index.true_of("Q", "R1") == {"P"}
    known = FactIndex(
        frozenset([*facts, Fact("D", "R5", "T")]), {}, unusable=frozenset([Fact("C", "R2", "O")])
    )
    known = known.with_rules(["R2>R4", "R4&R5>R6"])
    assert known.true_of("P", "R6") == {"T"}  # by a child that only the child tells
    assert known.true_of("O", "R4") == {"C"}  # by a fact that nothing is made of
    assert not known.true_of("C", "R6")


CHAIN, FATHERS = "R2&R1>R3", 6  # the mother's spouse is the father


def orphans() -> tuple[list[Fact], dict[str, str], list[str]]:
    """Families whose children have two fathers each, of whom only one is told; the other follows."""
    facts, labels = families(FATHERS)
    facts += [Fact(f"M{i}", "R1", f"F{(i + 1) % FATHERS}") for i in range(FATHERS)]
    return facts, labels, [fact.subject_id for fact in facts if fact.relation_id == "R3"]


def followed(child: str) -> str:
    """The father of a child of whom the chain alone tells."""
    return f"F{(int(child[1:]) + 1) % FATHERS}"


@pytest.mark.parametrize("dataset", ["coverage", "composite"])
def test_no_case_writes_what_a_chain_concludes(dataset: str) -> None:
    facts, labels, _ = orphans()
    rows = instances_of(FATHERS)
    more = as_instances(*(("R3>R9", f"A{i}", f"F{i}", f"A{i}") for i in range(FATHERS)))
    facts += [Fact(f"F{i}", "R9", f"A{i}") for i in range(FATHERS)]
    context = context_of(facts, labels)
    context = replace(context, prompts={**context.prompts, "R9": "A child of {} is"})
    given = pd.concat([rows, more.assign(kept=True, reason=None)]), scores_of(facts), context
    quotas = {"test": {dataset: 40}, "dev": {}, "train": {}}
    built = dataset_of(dataset, *given, **ALL_TEST, quotas=quotas, max_per_first_edit=9)
    written = rows_of(
        built.edits[built.edits["edit"].isin(["e1", "e2"])], "subject_id", "relation_id", "target_new_id"
    )
    false = {"new_imp", "neighbour_new"}
    asked = built.probes[built.probes["role"].isin(false)]
    asked = written | rows_of(asked, "subject_id", "relation_id", "object_id")
    fathers = {(s, o) for s, r, o in asked if r == "R3" and s[0] in "AB"}
    assert len(fathers) > FATHERS
    assert not fathers & {(child, followed(child)) for child, _ in fathers}


def test_nor_do_training_edits_and_sequences_of_a_graph() -> None:
    facts, labels, children = orphans()
    index = replace(context_of(facts, labels).index, rules=frozenset([CHAIN]))
    drawn = {
        c: {Targets(index, {}, "test").draw(c, "R3", (), generator(i)) for i in range(40)} for c in children
    }
    for child, targets in drawn.items():
        assert targets == {f"F{i}" for i in range(FATHERS)} - {f"F{child[1:]}", followed(child)}
    splits = dict.fromkeys(children, "test")
    templates = {r: [prompt] for r, prompt in context_of(facts, labels).prompts.items()}
    for row in graph_edits(index, splits, templates, seed=0, neighbours=3):
        child, relation_id, _ = row.edit.source_id.split()
        if relation_id == "R3":
            assert row.edit.target_new != labels[followed(child)]


def test_a_false_fact_that_a_rule_concludes_stops_a_build() -> None:
    facts, labels, _ = orphans()
    built = dataset_of(
        "coverage", instances_of(FATHERS), scores_of(facts), context_of(facts, labels), **ALL_TEST
    )
    index = context_of(facts, labels).index
    require("coverage", built.edits, built.probes, index)
    edit = built.edits[(built.edits["edit"] == "e1") & (built.edits["relation_id"] == "R1")].iloc[0]
    reverse = [Fact(edit.target_new_id, "R8", edit.subject_id)]
    known = replace(index, facts=index.facts | frozenset(reverse)).with_rules(["R8>R1"])
    with pytest.raises(ValueError, match="a fact that has to be false is true: 2, first edit's target is"):
        require("coverage", built.edits, built.probes, known)


# --- ties and order --------------------------------------------------------------------------------------
def test_of_two_objects_that_are_as_alike_a_hash_chooses() -> None:
    keys = [(f"S{i:03}", i) for i in range(200)]
    rows = [(s, "R", o, True, (i % 7) / 7) for s, i in keys for o in ("A", "B")]
    scores = pd.DataFrame(rows, columns=["subject_id", "relation_id", "object_id", "known", "similarity"])
    options, _ = candidates(scores, 2, seed=1)
    assert sum(map(len, options.values())) == 200
    for table in options.values():
        assert 0.3 < (table["object_id"] == "A").mean() < 0.7
    shuffled, _ = candidates(scores.sample(frac=1, random_state=generator(0)), 2, seed=1)
    assert {name: rows_of(table) for name, table in shuffled.items()} == {
        name: rows_of(table) for name, table in options.items()
    }


def test_no_dataset_depends_on_the_order_of_tables() -> None:
    facts, labels = families(24)
    instances, scores, context = instances_of(24), scores_of(facts), context_of(facts, labels)
    instances_, scores_ = (t.sample(frac=1, random_state=generator(3)) for t in (instances, scores))
    asked = {"quotas": {"test": dict.fromkeys(DATASETS, 20), "dev": {}, "train": {}}, **ALL_TEST}
    for dataset in DATASETS:
        built = dataset_of(dataset, instances, scores, context, **asked)
        again = dataset_of(dataset, instances_, scores_.reset_index(drop=True), context, **asked)
        for one, other in zip((built.cases, built.edits), (again.cases, again.edits), strict=True):
            pd.testing.assert_frame_equal(one, other)


def test_what_fills_a_quota_does_not_depend_on_the_order_of_keys() -> None:
    rows = [(f"S{i:02}", "R", o, True, 0.5) for i in range(30) for o in "AB"]  # as alike as any: all easy
    scores = pd.DataFrame(rows, columns=["subject_id", "relation_id", "object_id", "known", "similarity"])
    quotas, selection = {"round_easy": 10, "round_hard": 10}, RoundSelection(2)
    chosen = choose(scores, quotas, selection)["round_easy"].rows
    others = choose(scores.iloc[::-1].reset_index(drop=True), quotas, selection)["round_easy"].rows
    assert len(chosen) == 10
    assert rows_of(chosen) == rows_of(others)
