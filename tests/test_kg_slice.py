"""Real facts: a slice of Wikidata gives the published counts and measures of the paper's rules.

The expected figures were measured with other programs: counts with Virtuoso, measures with AMIE's definitions
in scipy.
"""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from aftershock.kg.pages import count, fetch
from aftershock.kg.queries import Pattern
from aftershock.kg.rules import Thresholds, mine_rules, suggest
from aftershock.kg.sampling import hash_limit, iri_hash
from aftershock.kg.sheets import one_to_many_relations, read_relations, read_rules
from aftershock.kg.source import connect
from aftershock.kg.summary import summarize
from graphs import as_sheet
from worlds import SLICE, Asked, Mined

RESOURCES = Path(__file__).parents[1] / "resources"
pytestmark = [
    pytest.mark.skipif(not SLICE.exists(), reason=f"needs the slice of Wikidata, {SLICE.name}"),
    pytest.mark.thorough,  # of small graphs, tests of each part find the same by obvious code
]

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


@pytest.fixture(scope="module")
def listed() -> list[str]:
    return read_relations(RESOURCES / "relations.tsv", "wikidata")["relation_id"].tolist()


@pytest.fixture(scope="module")
def summary(slice_asked: Asked, slice_mined: Mined, listed: list[str]) -> pd.DataFrame:
    sample = slice_asked.found["sample"][0]
    pd.testing.assert_frame_equal(slice_asked.whole, sample)  # which was taken whole
    sheet = read_rules(RESOURCES / "rules.tsv", "wikidata")
    measured, relations = mine_rules(sample, listed, sheet, Thresholds())
    keys = one_to_many_relations(RESOURCES, "wikidata")
    objects = {relation_id: slice_asked.found[relation_id][0] for relation_id in keys}
    left_out = {name: odd for name, (_, odd) in slice_asked.found.items() if name != "sample"}
    instances, kept = slice_mined.instances, slice_mined.objects
    made = summarize(measured, relations, instances, objects, kept, slice_asked.names, left_out)
    return made.set_index("rule")


def test_slice_rules_have_the_published_counts_and_measures(summary: pd.DataFrame) -> None:
    for rule, (instances, labelled, support, *measures) in RULES.items():
        row = summary.loc[rule]
        counts = row[["instances", "instances_labelled", "support"]].tolist()
        assert counts == [instances, labelled, support], rule
        found = row[["head_coverage", "std_confidence", "pca_confidence"]].astype(float)
        assert found.round(3).tolist() == measures, rule
        assert 0.8 * labelled < row["kept"] <= labelled
        assert row["sampled"] == row["instances"]


def test_slice_keys_have_the_published_counts(summary: pd.DataFrame) -> None:
    for relation_id, counts in KEYS.items():
        row = summary.loc[f"1-N@{relation_id}"]
        assert (row["instances"], row["instances_labelled"]) == counts, relation_id


def test_slice_suggests_the_symmetric_and_inverse_rules(slice_asked: Asked, listed: list[str]) -> None:
    sheet = read_rules(RESOURCES / "rules.tsv", "wikidata")
    sheet = sheet[sheet["rule"].isin(RULES)]
    paper, relations = mine_rules(slice_asked.found["sample"][0], listed, sheet, Thresholds())
    suggested = suggest(paper, relations, "wikidata").set_index("rule")
    assert {"P26>P26", "P3373>P3373", "P40>P22", "P184>P185", "P170>P800"} <= set(suggested.index)
    assert not set(RULES) & set(suggested.index)
    assert suggested["score"].is_monotonic_decreasing
    assert "P3373&P22>P22" in suggested.index[:5]


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
    rules, _ = mine_rules(facts, every, as_sheet(), Thresholds(min_pca_confidence=0.0))
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
