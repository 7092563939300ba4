"""Real facts: a slice of Wikidata gives the published counts and measures of the paper's rules.

The expected figures were measured with other programs: counts with Virtuoso, measures with AMIE's definitions
in scipy.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.filters import Limits, Names, complete, filter_facts, filter_instances, filter_objects
from aftershock.kg.graph import GRAPHS
from aftershock.kg.labels import find_labels
from aftershock.kg.logic import LogicRule
from aftershock.kg.pages import count, fetch
from aftershock.kg.queries import Pattern
from aftershock.kg.rules import Thresholds, mine_rules, suggest
from aftershock.kg.sample import sample_facts
from aftershock.kg.sampling import hash_limit, iri_hash
from aftershock.kg.sheets import kept_rules, one_to_many_relations, read_relations, read_rules
from aftershock.kg.source import connect
from aftershock.kg.summary import summarize

ROOT = Path(__file__).parents[1]
SLICE = ROOT.parent / "shared" / "data" / "wikidata-slice.nt.gz"
pytestmark = pytest.mark.skipif(not SLICE.exists(), reason=f"needs the slice of Wikidata, {SLICE.name}")

# instances, instances with labels, support, head coverage, standard and PCA confidence
RULES = {
    "P800>P170": (334, 334, 334, 0.746, 0.168, 1.0),
    "P185>P184": (772, 772, 772, 0.855, 0.833, 0.997),
    "P22>P40": (1182, 1182, 1182, 0.298, 0.425, 0.862),
    "P25>P40": (884, 884, 884, 0.223, 0.301, 0.485),
    "P39&P1001>P27": (343, 343, 337, 0.015, 1.0, 1.0),
    "P40&P25>P26": (1038, 1038, 956, 0.332, 0.523, 0.835),
    "P40&P22>P26": (299, 298, 274, 0.095, 0.202, 0.551),
    "P25&P26>P22": (886, 886, 885, 0.319, 0.890, 0.960),
    "P22&P40>P3373": (957, 942, 957, 0.510, 0.305, 0.567),
    "P22&P26>P25": (961, 961, 961, 0.327, 0.684, 0.858),
    "P800&P407>P1412": (384, 384, 358, 0.023, 0.994, 1.0),
}
# subjects with two to ten objects, and those of them with a label of their own and of two objects
KEYS = {
    "P69": (3730, 1504),
    "P136": (5191, 2693),
    "P166": (1370, 1370),
    "P279": (861, 861),
    "P276": (589, 589),
    "P366": (1507, 1506),
    "P800": (277, 277),
    "P674": (260, 260),
    "P1411": (234, 234),
    "P403": (78, 78),
}


@dataclass(frozen=True)
class Mined:
    """All tables of the slice."""

    sample: pd.DataFrame
    combinations: pd.DataFrame
    suggested: pd.DataFrame
    summary: pd.DataFrame


@pytest.fixture(scope="module")
def mined(slice_store: Path) -> Mined:
    resources = ROOT / "resources"
    relation_ids = read_relations(resources / "relations.tsv", "wikidata")["relation_id"].tolist()
    with connect({"namespace": "wikidata"}, slice_store) as client:
        sample, _ = sample_facts(client, relation_ids, 1_000_000, seed=0)
        rules = [LogicRule.parse(rule) for rule in kept_rules(resources, "wikidata")]
        found = {rule: find_combinations(client, rule, 50_000, 0) for rule in rules}
        combinations = pd.concat([rows for rows, _ in found.values()], ignore_index=True)
        keys = one_to_many_relations(resources, "wikidata")
        found |= {relation_id: find_objects(client, relation_id) for relation_id in keys}
        objects = {relation_id: found[relation_id][0] for relation_id in keys}
        entities = [
            frame.drop(columns=["rule", "relation_id"], errors="ignore")
            for frame in (sample, combinations, *objects.values())
        ]
        seen = set(pd.concat([frame.melt()["value"] for frame in entities]))
        names = Names(find_labels(client, seen), GRAPHS["wikidata"])
    sheet = read_rules(resources / "rules.tsv", "wikidata")
    measured, relations = mine_rules(sample, relation_ids, sheet, Thresholds())
    every = pd.concat(objects.values(), ignore_index=True)
    whole = complete(sample, combinations, every, head_holds=True)
    pd.testing.assert_frame_equal(whole, sample)  # which was taken whole
    facts = filter_facts(sample, names)
    instances = filter_instances(combinations, facts, names, Limits(100, 10))
    kept, _ = filter_objects(every, names)
    left_out = {str(name): odd for name, (_, odd) in found.items()}
    summary = summarize(measured, relations, instances, objects, kept, names, left_out)
    paper, _ = mine_rules(sample, relation_ids, sheet[sheet["rule"].isin(RULES)], Thresholds())
    suggested = suggest(paper, relations, "wikidata").set_index("rule")
    return Mined(sample, combinations, suggested, summary.set_index("rule"))


def test_slice_rules_have_the_published_counts_and_measures(mined: Mined) -> None:
    for rule, (instances, labelled, support, *measures) in RULES.items():
        row = mined.summary.loc[rule]
        assert row[["instances", "instances_labelled", "support"]].tolist() == [
            instances,
            labelled,
            support,
        ], rule
        found = row[["head_coverage", "std_confidence", "pca_confidence"]].astype(float)
        assert found.round(3).tolist() == measures, rule
        assert 0.8 * labelled < row["kept"] <= labelled
        assert row["sampled"] == row["instances"]


def test_slice_keys_have_the_published_counts(mined: Mined) -> None:
    for relation_id, counts in KEYS.items():
        row = mined.summary.loc[f"1-N@{relation_id}"]
        assert (row["instances"], row["instances_labelled"]) == counts, relation_id


def test_slice_suggests_the_symmetric_and_inverse_rules(mined: Mined) -> None:
    assert {"P26>P26", "P3373>P3373", "P40>P22", "P184>P185", "P170>P800"} <= set(mined.suggested.index)
    assert not set(RULES) & set(mined.suggested.index)
    assert mined.suggested["score"].is_monotonic_decreasing
    assert "P3373&P22>P22" in mined.suggested.index[:5]


def all_facts(file: Path) -> pd.DataFrame:
    """Facts of all relations of a graph, types and occupations too, not only those of relations.tsv."""
    with gzip.open(file, "rt", encoding="utf-8") as handle:
        lines = [line.split(" ") for line in handle]
    ids = (
        (s, p, o) for s, p, o, *_ in lines if "/prop/direct/" in p and "/entity/Q" in s and "/entity/Q" in o
    )
    return pd.DataFrame(
        ([term.rpartition("/")[2][:-1] for term in row] for row in ids),
        columns=["subject_id", "relation_id", "object_id"],
    )


def test_every_relation_of_the_slice_can_be_mined() -> None:
    facts = all_facts(SLICE)
    every = sorted(facts["relation_id"].unique())
    assert (len(facts), len(every)) == (381_871, 82)
    none = pd.DataFrame(columns=["rule", "status", "reason"])
    rules, _ = mine_rules(facts, every, none, Thresholds(min_pca_confidence=0.0))
    # as sparse matrix products find them, at AMIE's head coverage and a support of two
    assert rules["body2"].notna().sum() == 204


def test_fifty_thousand_of_many_combinations_take_two_requests(slice_store: Path) -> None:
    star = Pattern(("x", "y", "z"), "?x wdt:P27 ?y . ?x wdt:P106 ?z .")  # the largest body
    with connect({"namespace": "wikidata"}, slice_store) as source:
        client = source.client
        total = count(client, star)
        limit = hash_limit(50_000, total)
        found = fetch(
            client,
            star,
            by=("y", "x"),
            total=total,
            keep=lambda ids: iri_hash(0, *map(client.graph.iri, ids)) < limit,
        )
    assert total == 90_930
    assert len(found.ids) == len(set(found.ids)) >= 50_000
    assert client.requests == 2


@pytest.mark.parametrize("rule", RULES)
def test_slice_instances_equal_a_join_of_the_facts(mined: Mined, rule: str) -> None:
    db = duckdb.connect(config={"threads": 1})
    facts = mined.sample.set_axis(["s", "r", "o"], axis=1)
    db.register("facts", facts[facts["r"].isin(LogicRule.parse(rule).relations)])
    joined = ", ".join(f"facts f{i}" for i, _ in enumerate(LogicRule.parse(rule).facts))
    places: dict[str, list[str]] = {}
    conditions = []
    for i, (s, relation_id, o) in enumerate(LogicRule.parse(rule).facts):
        conditions.append(f"f{i}.r = '{relation_id}'")
        places.setdefault(s, []).append(f"f{i}.s")
        places.setdefault(o, []).append(f"f{i}.o")
    conditions += [f"{first} = {other}" for first, *others in places.values() for other in others]
    columns = ", ".join(places[variable][0] for variable in sorted(places))
    rows = db.execute(f"SELECT {columns} FROM {joined} WHERE {' AND '.join(conditions)}").fetchall()
    found = mined.combinations[mined.combinations["rule"] == rule]
    instances = set(found[["x_id", "y_id", "z_id"][: len(places)]].itertuples(index=False, name=None))
    assert instances == {row for row in rows if len(set(row)) == len(row)}
