"""Train, dev and test: one division of a graph's entities, for cases, tuning and MEND alike."""

from collections import Counter
from itertools import product

import pandas as pd
import pytest

from aftershock.datasets import reasons
from aftershock.datasets.build import Dataset
from aftershock.datasets.cut import SLACK, cut
from aftershock.datasets.graph_facts import Fact
from aftershock.datasets.mend import graph_locality, training_edits
from aftershock.datasets.overlap import crossing, divided, seen_elsewhere
from aftershock.datasets.split import components, home_of, split_entities, split_of, splits_of
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.seeds import generator
from aftershock.tables.graph import SPLIT
from families import SETTINGS, families, frame, instances_of, scores_of
from worlds import SHARES, SLICE, Mined, build_all, mine_world

NO_FACTS = frame([], kept=pd.Series(dtype=bool), subject=[], object=[])
QUOTAS = {split: dict.fromkeys(DATASETS, n) for split, n in (("test", 60), ("dev", 20), ("train", 20))}
ASKED = SETTINGS | {"quotas": QUOTAS, "split": SHARES, "strict_only": False}
needs_slice = pytest.mark.skipif(not SLICE.exists(), reason=f"needs the slice of Wikidata, {SLICE.name}")


def split_pairs(pairs, shares, seed=0):
    """SPLIT rows of a graph whose instances are `pairs` of one chain rule."""
    rows = [("R2&R1>R3", x, y, "Z", True, None) for x, y in pairs]
    instances = pd.DataFrame(rows, columns=["rule", "x_id", "y_id", "z_id", "kept", "reason"])
    table = split_entities(instances, frame([]), NO_FACTS, shares, seed)
    SPLIT.check(table)
    return instances, table


# --- the division -----------------------------------------------------------------------------------------
def test_components_and_splits():
    assert components([("a", "b"), ("c", "c"), ("b", "d")]) == {"a": "a", "b": "a", "c": "c", "d": "a"}
    table = split_entities(instances_of(12), frame([]), NO_FACTS, {"test": 0.5, "dev": 0.5}, 0)
    splits = splits_of(table)
    assert all(split_of((f"M{i}", f"F{i}", f"A{i}"), splits) for i in range(12))
    assert split_of(("M0", "nobody"), splits) == splits["M0"]
    assert set(table["assigned"]) == {"component"}
    assert table["component"].nunique() == 12


def test_larger_shares_are_served_first_whatever_their_order():
    pairs = [(f"X{i}", "Hub") for i in range(40)] + [(f"A{i}", f"B{i}") for i in range(50)]
    for shares in ({"test": 0.6, "dev": 0.2, "train": 0.2}, {"train": 0.2, "dev": 0.2, "test": 0.6}):
        _, table = split_pairs(pairs, shares)
        assert splits_of(table)["Hub"] == "test"


def test_whom_an_edit_may_be_about_is_divided_even_without_an_instance():
    facts, labels = families(6)
    lonely = frame([*facts, Fact("Nobody", "R1", "Lonely")], kept=True, subject=None, object=None)
    table = split_entities(instances_of(6), scores_of(facts), lonely, SHARES, 0)
    # A target of R1 is the subject of a reverse case's second edit.
    assert "Lonely" in set(table["entity_id"])
    assert "T0" not in set(table["entity_id"])
    assert labels["T0"]


# --- a component that is too large ------------------------------------------------------------------------
def test_a_chain_is_cut_at_two_places():
    pairs = [(f"E{i:02}", f"E{i + 1:02}") for i in range(50)]
    instances, table = split_pairs(pairs, SHARES)
    assert set(table["assigned"]) == {"cut"}
    sizes = table["split"].value_counts()
    assert sizes["test"] == pytest.approx(0.6 * 51, abs=2)
    assert sizes["dev"] == pytest.approx(0.2 * 51, abs=2)
    lost, kept = crossing(instances, table)
    assert (lost <= 4, kept) == (True, 50)


def test_a_star_keeps_the_hub_with_most_of_its_leaves():
    instances, table = split_pairs([(f"E{i}", "Hub") for i in range(100)], SHARES)
    assert splits_of(table)["Hub"] == "test"
    assert crossing(instances, table)[0] == pytest.approx(40, abs=4)  # no division keeps more


def test_communities_stay_whole():
    rng = generator(0, "communities")
    pairs = []
    for c in range(10):
        pairs += [tuple(f"C{c}N{n}" for n in rng.choice(30, 2, replace=False)) for _ in range(120)]
        pairs.append((f"C{c}N0", f"C{(c + 1) % 10}N1"))
    instances, table = split_pairs(pairs, SHARES)
    names, p = list(SHARES), list(SHARES.values())
    one_by_one = {entity: str(rng.choice(names, p=p)) for entity in table["entity_id"]}
    lost, kept = crossing(instances, table)
    assert lost < 0.1 * kept
    assert home_of(instances, one_by_one).isna().sum() > 0.4 * kept


@pytest.mark.parametrize("seed", range(12))
def test_a_cut_of_few_nodes_is_close_to_the_best_there_is(seed):
    rng = generator(seed, "small graphs")
    nodes = [f"N{i}" for i in range(9)]
    edges = Counter(tuple(sorted(map(str, rng.choice(nodes, 2, replace=False)))) for _ in range(14))
    nodes = sorted({node for pair in edges for node in pair})
    weight = dict.fromkeys(nodes, 1)

    def lost(part):
        return sum(value for (a, b), value in edges.items() if part[a] != part[b])

    found = cut(edges, weight, {"test": 0.5, "dev": 0.5}, seed)
    allowed = {sum(split == "test" for split in found.values())}
    ways = (dict(zip(nodes, way, strict=True)) for way in product(("test", "dev"), repeat=len(nodes)))
    best = min(lost(way) for way in ways if sum(s == "test" for s in way.values()) in allowed)
    assert lost(found) <= best + 3
    assert abs(allowed.pop() - len(nodes) / 2) <= max(1, SLACK * len(nodes))


def test_cutting_does_not_depend_on_the_order_of_instances():
    rng = generator(0, "order")
    pairs = [tuple(f"E{n}" for n in rng.choice(40, 2, replace=False)) for _ in range(90)]
    _, once = split_pairs(pairs, SHARES)
    _, twice = split_pairs([pairs[i] for i in rng.permutation(len(pairs))], SHARES)
    pd.testing.assert_frame_equal(once, twice)


def test_overlap_is_counted():
    pairs = [(f"E{i}", f"E{i + 1}") for i in range(9)]
    instances, table = split_pairs(pairs, {"test": 0.5, "dev": 0.5})
    lost, kept = crossing(instances, table)
    rows = divided(instances, table)
    assert sum(row[2] for row in rows) == 10
    assert sum(row[4] for row in rows) == kept - lost
    cases = pd.DataFrame({"case_id": [0, 1], "split": ["test", "dev"]})
    edits = pd.DataFrame(
        [
            (0, "e1", "S0", "T", "O"),
            (0, "e2", "S0", "U", "T"),
            (0, "control", "S9", "V", "T"),
            (1, "e1", "S1", "T", "O"),
        ],
        columns=["case_id", "edit", "subject_id", "target_new_id", "target_true_id"],
    )
    probes = pd.DataFrame(
        [(0, "neighbour", "S1", "R1", "O"), (0, "e1_true", "S0", "R1", "O"), (1, "e1_true", "S1", "R1", "O")],
        columns=["case_id", "role", "subject_id", "relation_id", "object_id"],
    )
    found = seen_elsewhere(cases, edits, probes, {"S0": "test", "S1": "dev", "U": "dev"})
    assert found == [
        ("subjects of edits", 1, 0, 0),
        ("false objects written", 2, 1, 1),
        ("true facts edited or tied", 1, 0, 0),
        ("objects of these", 1, 0, 1),
        ("facts of neighbours and controls", 1, 1, 0),
    ]


# --- what is built on it ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Mined:
    return mine_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def real(slice_mined) -> dict[str, Dataset]:
    return build_all(slice_mined, ASKED)


def assert_disjoint(mined: Mined, datasets: dict[str, Dataset]) -> None:
    """No subject, tied or edited fact, neighbour or control of one split turns up in another one, MEND's
    training included; whatever is divided is only written where it belongs.
    """
    splits = splits_of(mined.division())
    subjects, facts = ({name: set() for name in SHARES} for _ in range(2))
    for dataset, tables in datasets.items():
        assert set(tables.cases["split"]) == set(SHARES), dataset
        for name in SHARES:
            ids = set(tables.cases.loc[tables.cases["split"] == name, "case_id"])
            edits = tables.edits[tables.edits["case_id"].isin(ids)]
            # What is drawn; a round case's way back writes true objects and their neighbours.
            first = ["e1", "e2", "control"] if dataset in CONFLICT else ["e1"]
            drawn = edits.loc[edits["edit"].isin(first), "target_new_id"]
            probes = tables.probes[tables.probes["case_id"].isin(ids)]
            true = probes[~probes["role"].isin(["old", "new_exp", "new_imp", "e2_true", "target"])]
            subjects[name] |= set(edits["subject_id"]) | set(true["subject_id"])
            subjects[name] |= {e for e in drawn if e in splits}
            facts[name] |= set(true[["subject_id", "relation_id", "object_id"]].itertuples(index=False))
    index, scores = mined.context().index, mined.scores()
    prompts = pd.concat(
        [mined.sheet.rename(columns={"prompt": "template"}).assign(prompt_id=n) for n in range(5)]
    )
    edits = training_edits("all", mined.instances, scores, prompts, index, splits, targets=2)
    local = graph_locality(mined.instances, scores, prompts, index, splits)
    for name in ("train", "dev"):
        subjects[name] |= set(edits.loc[edits["split"] == name, "subject_id"])
        labels = {index.labels[e] for e in splits if splits[e] == name and e in index.labels}
        assert set(local.loc[local["split"] == name, "subject"]) <= labels
    for name, other in (("test", "dev"), ("test", "train"), ("dev", "train")):
        assert not subjects[name] & subjects[other]
        assert not facts[name] & facts[other]


def test_no_split_of_the_world_sees_another_one(world):
    assert_disjoint(world, build_all(world, ASKED))


@needs_slice
@pytest.mark.thorough
def test_real_facts_give_enough_candidates_of_each_kind(slice_mined, real):
    kept = slice_mined.instances[slice_mined.instances["kept"]]
    homes = home_of(kept, splits_of(slice_mined.division()))
    assert homes.notna().all()  # no component had to be cut
    chains = kept["rule"].str.contains("&")
    assert (~chains).sum() >= 1_000
    assert chains.sum() >= 1_000
    assert len(slice_mined.objects[["subject_id", "relation_id"]].drop_duplicates()) >= 1_500
    for dataset, tables in real.items():
        rest = tables.counts.loc[tables.counts["reason"] == reasons.QUOTA, "candidates"].sum()
        assert len(tables.cases) + rest >= (1_500 if dataset.startswith("round") else 1_000), dataset


def test_a_quota_of_nothing_makes_no_case(world):
    for dataset, tables in build_all(world, ASKED | {"quotas": dict.fromkeys(SHARES, {})}).items():
        assert tables.cases.empty
        assert (tables.counts["reason"] == reasons.QUOTA).any(), dataset


def test_the_division_is_that_of_the_datasets(world):
    table = world.division()
    SPLIT.check(table)
    assert set(table["split"]) == set(SHARES)
    kept = world.instances[world.instances["kept"]]
    assert set(kept["x_id"]) | set(kept["y_id"]) | set(world.objects["subject_id"]) <= set(table["entity_id"])
    weights = kept["x_id"].map(splits_of(table)).value_counts(normalize=True)
    assert weights["test"] == pytest.approx(0.6, abs=0.08)
