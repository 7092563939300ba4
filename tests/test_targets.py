"""False objects: drawn from the relation's objects, never true, and in turns on request."""

from collections import Counter
from dataclasses import replace

import pytest

from aftershock.datasets.graph_facts import Fact, FactIndex
from aftershock.datasets.targets import Targets
from aftershock.seeds import generator
from families import context_of, dataset_of, families, frame, instances_of, scores_of


def test_a_fact_that_a_filter_dropped_is_never_a_target():
    facts, labels = families(3)
    rows = frame(facts, reason=None, kept=[f.relation_id != "R5" or f.subject_id != "A0" for f in facts])
    rows["subject"], rows["object"] = rows["subject_id"].map(labels), rows["object_id"].map(labels)
    index = FactIndex.from_frames(rows, frame([], known=True))
    assert Fact("A0", "R5", "T0") not in index.facts
    targets = Targets(index, {}, "test")
    drawn = {targets.draw("A0", "R5", (), generator(i, "draw")) for i in range(30)}
    assert drawn == {"T1", "T2", "T3"}


@pytest.mark.parametrize("seed", range(20))
def test_a_draw_is_a_choice_among_what_is_left_of_the_pool(seed):
    """The same as listing what may be drawn and choosing from the list."""
    rng = generator(seed, "pool")
    labels = {f"O{i}": f"label {rng.integers(25)}" for i in range(40)} | {"S": "label 3"}
    facts = frozenset(Fact("other", "R", f"O{i}") for i in range(40)) | {Fact("S", "R", "O7")}
    index = FactIndex(facts, labels | {"other": "someone"})
    splits = {f"O{i}": str(rng.choice(["test", "dev"])) for i in range(0, 40, 2)}
    avoid = [f"O{i}" for i in rng.choice(40, 4)]
    taken = {labels[e].upper() for e in ("S", "O7", *avoid)}
    left = [
        e
        for e in sorted(labels, key=str)
        if e != "S" and splits.get(e, "dev") == "dev" and labels[e].upper() not in taken
    ]
    slow = str(generator(seed, "draw").choice(left))
    assert Targets(index, splits, "dev").draw("S", "R", avoid, generator(seed, "draw")) == slow


def test_nothing_is_drawn_where_nothing_is_false():
    index = FactIndex(
        frozenset([Fact("S", "R", "A"), Fact("T", "R", "B")]), {"S": "s", "T": "t", "A": "a", "B": "A"}
    )
    for balance in (False, True):
        targets = Targets(index, {}, "test", balance)
        assert targets.draw("S", "R", (), generator(0)) is None
        assert targets.draw("S", "unknown", (), generator(0)) is None


def test_labels_take_turns():
    labels = {f"O{i}": f"label {i // 2}" for i in range(20)} | {"S": "s", "T": "t"}
    index = FactIndex(frozenset(Fact("T", "R", f"O{i}") for i in range(20)), labels)
    targets, rng = Targets(index, {}, "test", balance=True), generator(0)
    drawn = []
    for _ in range(30):
        entity = targets.draw("S", "R", (), rng)
        assert targets.draw("S", "R", (), rng) == entity  # what no case writes is not used
        targets.use("R", entity)
        drawn.append(labels[entity])
    assert Counter(drawn) == {f"label {i}": 3 for i in range(10)}
    assert set(drawn[:10]) == set(drawn[10:20]) == set(drawn[20:])
    assert drawn[:10] != drawn[10:20]


def test_what_may_not_be_written_now_comes_later():
    labels = {f"O{i}": f"label {i}" for i in range(6)} | {"S": "s", "T": "t"}
    index = FactIndex(frozenset(Fact("T", "R", f"O{i}") for i in range(6)), labels)
    targets, rng = Targets(index, {}, "test", balance=True), generator(0)
    first = targets.draw("S", "R", (), rng)
    second = targets.draw("S", "R", (first,), rng)
    targets.use("R", second)
    assert targets.draw("S", "R", (), rng) == first


@pytest.mark.parametrize("dataset", ["coverage", "composite", "round_easy"])
def test_balanced_datasets_write_no_label_twice_before_the_others(dataset):
    facts, labels = families(24)
    # Many fathers share a name, which uneven draws would prefer.
    names = {
        e: "Label of many" if e in {f"F{i}" for i in range(12)} else label for e, label in labels.items()
    }
    context = context_of(facts, labels)
    context = replace(context, index=FactIndex(frozenset(facts), names, frozenset(facts)))
    given = instances_of(24), scores_of(facts), context
    even = dataset_of(dataset, *given, balance_targets=True, split={"test": 1.0, "dev": 0.0, "train": 0.0})
    written = even.edits[even.edits["edit"].isin(["e1", "e2"] if dataset != "round_easy" else ["e1"])]
    pools = {r: {labels[e] for e in pool} for r, pool in context.index.pools.items()}
    for relation_id, rows in written.groupby("relation_id"):
        uses = rows["target_new"].value_counts()
        assert uses.max() <= -(-len(rows) // len(pools[relation_id])) + 1
        assert uses.get("Label of many", 0) <= uses.max()


def test_caps_on_tied_facts_and_old_objects():
    facts, labels = families(24)
    given = instances_of(24), scores_of(facts), context_of(facts, labels)
    more = {"split": {"test": 1.0, "dev": 0.0, "train": 0.0}, "max_per_first_edit": 50}
    more["quotas"] = {"test": {"composite": 40}, "dev": {}, "train": {}}
    wide = dataset_of("composite", *given, **more).edits
    capped = dataset_of("composite", *given, **more, max_per_object=1)
    first = capped.edits[capped.edits["edit"] == "e1"]
    assert not first.duplicated(["relation_id", "target_true_id"]).any()
    assert wide[wide["edit"] == "e1"].duplicated(["relation_id", "target_true_id"]).any()
    tied = dataset_of("composite", *given, **more, max_per_tied_fact=1).probes
    assert not tied[tied["role"] == "tied"].duplicated(["subject_id", "relation_id", "object_id"]).any()
    assert "the first edit's old object is used often enough" in set(capped.counts["reason"])
