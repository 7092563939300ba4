"""False objects, and RoundEdit: which object is edited, what stands in for it, how many cases have."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftershock.datasets.graph_facts import Fact, FactIndex
from aftershock.datasets.round_edit import PROFILES, RoundSelection, apportion, choose
from aftershock.datasets.targets import Targets
from aftershock.seeds import generator
from families import context_of, dataset_of, families, instances_of, scores_of


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


def test_caps_on_tied_facts_and_old_objects(graph):
    more = {"split": {"test": 1.0, "dev": 0.0, "train": 0.0}, "max_per_first_edit": 50}
    more["quotas"] = {"test": {"composite": 40}, "dev": {}, "train": {}}
    wide = dataset_of("composite", *graph, **more).edits
    capped = dataset_of("composite", *graph, **more, max_per_object=1)
    first = capped.edits[capped.edits["edit"] == "e1"]
    assert not first.duplicated(["relation_id", "target_true_id"]).any()
    assert wide[wide["edit"] == "e1"].duplicated(["relation_id", "target_true_id"]).any()
    tied = dataset_of("composite", *graph, **more, max_per_tied_fact=1).probes
    assert not tied[tied["role"] == "tied"].duplicated(["subject_id", "relation_id", "object_id"]).any()
    assert "the first edit's old object is used often enough" in set(capped.counts["reason"])


def scores(sizes: dict[int, int], relations: int = 2) -> pd.DataFrame:
    """OBJECT_SCORES with so many keys of each number of objects; two objects of a key are equally similar."""
    rows, rng = [], generator(0, "scores")
    for size, keys in sizes.items():
        for k in range(keys):
            alike = rng.random()
            for o in range(size):
                similarity = alike if size == 2 else rng.random()
                rows.append(
                    (f"S{size}.{k}", f"R{k % relations}", f"O{rng.integers(1 << 30)}.{o}", similarity)
                )
    table = pd.DataFrame(rows, columns=["subject_id", "relation_id", "object_id", "similarity"])
    return table.assign(known=True, probability=0.5, rank=1)


def test_easy_and_hard_choose_different_objects_and_share_the_target(graph):
    easy = dataset_of("round_easy", *graph).edits
    hard = dataset_of("round_hard", *graph).edits
    firsts = [e[e["edit"] == "e1"].set_index(["subject_id", "relation_id"]) for e in (easy, hard)]
    both = firsts[0].join(firsts[1], suffixes=("_easy", "_hard"), how="inner")
    assert len(both)
    assert (both["target_true_id_easy"] != both["target_true_id_hard"]).all()
    assert (both["target_new_id_easy"] == both["target_new_id_hard"]).all()
    similarity = graph[1].set_index(["subject_id", "relation_id", "object_id"])["similarity"]
    median = similarity.median()
    for first, sign in zip(firsts, (1, -1), strict=True):
        chosen = similarity[[(*key, o) for key, o in zip(first.index, first["target_true_id"], strict=True)]]
        assert (sign * (chosen - median) >= 0).all()


@pytest.mark.parametrize("balance", [False, True])
def test_what_stands_in_is_drawn_once_for_both(graph, balance):
    drawn = [
        dataset_of(name, *graph, balance_targets=balance, quotas={"test": {name: n}, "dev": {}, "train": {}})
        for name, n in (("round_easy", 20), ("round_hard", 3), ("round_easy", 5))
    ]
    found: dict = {}
    for tables in drawn:
        first = tables.edits[tables.edits["edit"] == "e1"]
        for row in first.itertuples():
            found.setdefault((row.subject_id, row.relation_id), set()).add(row.target_new_id)
    assert any(len(tables.cases) for tables in drawn)
    assert {len(targets) for targets in found.values()} == {1}


def test_keys_that_fall_are_counted_once_each_with_their_reason(graph):
    instances, table, context = graph
    once = ~table.duplicated(["subject_id", "relation_id"])
    built = dataset_of("round_easy", instances, table.assign(known=once), context)
    assert built.cases.empty
    dropped = built.counts.groupby(["split", "reason"])["candidates"].sum()
    assert dropped["test", "fewer than 2 objects known to the model"] > 0
    for scores_ in (table, table.assign(known=once), table.assign(similarity=float("nan"))):
        for name in ("round_easy", "round_hard"):
            counts = dataset_of(name, instances, scores_, context).counts
            keys = scores_[["subject_id", "relation_id"]].drop_duplicates()
            assert counts["candidates"].sum() == len(keys)


# --- numbers of true objects ------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.integers(2, 10), st.floats(0.01, 100), min_size=1), st.integers(0, 3000))
def test_shares_are_whole_numbers_that_add_up(weights, quota):
    seats = apportion(weights, quota)
    assert sum(seats.values()) == quota
    total = sum(weights.values())
    assert all(abs(seats[n] - quota * weights[n] / total) < 1 for n in weights)


def test_the_released_files_have_these_numbers():
    paper = PROFILES["paper"]
    assert sum(paper.values()) == 2500
    assert sum(n * keys for n, keys in paper.items()) / 2500 == pytest.approx(2.916, abs=5e-4)
    assert sum(keys / n for n, keys in paper.items()) / 2500 == pytest.approx(0.4022, abs=5e-5)
    assert apportion(paper, 2500) == paper


def numbers(table: pd.DataFrame, quota: int, counts) -> dict[str, Counter]:
    """Return the number of chosen keys of each number of objects in the two datasets."""
    sizes = table.groupby(["subject_id", "relation_id"]).size()
    found = choose(table, {"round_easy": quota, "round_hard": quota}, RoundSelection(2, counts))
    return {
        name: Counter(
            sizes[key] for key in chosen.rows[["subject_id", "relation_id"]].itertuples(index=False)
        )
        for name, chosen in found.items()
    }


def test_numbers_of_true_objects_follow_the_paper():
    table = scores({2: 700, 3: 200, 4: 100, 5: 60, 6: 40, 7: 30, 8: 20, 9: 20, 10: 20})
    found = numbers(table, 100, "paper")
    assert found["round_easy"] == found["round_hard"] == Counter(apportion(PROFILES["paper"], 100))


def test_what_a_number_lacks_is_not_filled_with_others():
    found = numbers(scores({2: 200, 3: 4}), 60, {2: 1, 3: 1})
    assert found["round_easy"] == found["round_hard"]
    assert found["round_easy"][2] == 30
    assert 0 < found["round_easy"][3] <= 4
    matched = numbers(scores({2: 200, 3: 4}), 60, "matched")
    assert matched["round_easy"].total() == matched["round_hard"].total() == 60
