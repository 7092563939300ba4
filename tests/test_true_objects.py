"""Graphs of which a sample is read: what is false in a case is false in the whole graph."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from aftershock.datasets.graph_facts import FactIndex
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.datasets.targets import Targets
from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.filters import (
    BESIDE,
    FACT_KEY,
    OTHER_RANK,
    Limits,
    Names,
    complete,
    filter_facts,
    filter_instances,
)
from aftershock.kg.graph import GRAPHS
from aftershock.kg.partitions import load_dump
from aftershock.kg.source import Source
from aftershock.kg.store import load_triples
from aftershock.kg.true_objects import find_true_objects, keys_of_cases
from aftershock.seeds import generator
from aftershock.tables.graph import FACTS, TRUE_OBJECTS
from families import SETTINGS
from graphs import WORLD, as_instances, as_labels, as_sample, client_of, rows_of, triple
from worlds import SHARES, Asked, ask_world, build_all, connect, mine

SAMPLED = 300  # of some thousand facts
MORE = "".join(triple(f"E{i}", "R1", f"E{i + 4}") for i in range(1, 90, 3))
"""Marriages of which only one side tells: no instance of a rule says that they are true."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return ask_world(tmp_path_factory.mktemp("whole"), more=MORE)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return ask_world(tmp_path_factory.mktemp("part"), max_facts=SAMPLED, more=MORE)


def true_of(facts: pd.DataFrame) -> dict[tuple[str, str], set[str]]:
    return facts.groupby(["subject_id", "relation_id"])["object_id"].agg(set).to_dict()


def check_cases(part: Asked, whole: pd.DataFrame, quota: int) -> None:
    """All true objects of edited subjects of a sampled graph are known, and none is a target."""
    mined, true = mine(part), true_of(whole)
    assert (mined.facts["reason"] == BESIDE).any()
    quotas = {split: dict.fromkeys(DATASETS, quota) for split in SHARES}
    built = build_all(mined, {**SETTINGS, "quotas": quotas, "split": SHARES, "strict_only": False})
    known = mined.context().index.objects
    for dataset, tables in built.items():
        edited = tables.edits[tables.edits["edit"].isin(["e1", "e2"] if dataset in CONFLICT else ["e1"])]
        assert len(edited) > quota
        for edit in edited.itertuples():
            objects = true.get((edit.subject_id, edit.relation_id), set())
            assert set(known.get((edit.subject_id, edit.relation_id), ())) == objects
            assert edit.target_new_id not in objects


def test_cases_of_a_sampled_graph_know_all_that_is_true_of_their_subjects(part: Asked, whole: Asked) -> None:
    assert len(part.found["sample"][0]) <= SAMPLED < len(whole.whole) / 2
    check_cases(part, whole.whole, quota=40)


def test_nothing_is_asked_again_of_what_was_sampled(part: Asked, whole: Asked) -> None:
    TRUE_OBJECTS.check(part.true_objects)
    assert whole.true_objects.empty
    assert not set(part.true_objects["subject_id"]) & set(part.found["sample"][0]["subject_id"])
    facts = filter_facts(whole.whole, whole.names)
    pd.testing.assert_frame_equal(filter_facts(whole.whole, whole.names, beside=whole.true_objects), facts)


def test_each_subject_is_asked_about_once() -> None:
    lines = [triple("E1", "R1", "E2"), triple("E1", "R1", "E3"), triple("E2", "R2", "E1")]
    lines += [triple("E3", "R2", "E4"), triple("E3", "R2", "E5"), triple("E5", "R2", "E1")]
    instances = as_instances(("R1>R2", "E1", "E2", "E1"))
    sample = as_sample([("E6", "R1", "E3"), ("E6", "R2", "E5")])
    keys = keys_of_cases(sample, instances, sample[:0])
    # E3 is the object of another fact of R1, and so the subject of some reverse case's second edit.
    assert keys == {"R1": {"E1"}, "R2": {"E2", "E3"}}
    with client_of(lines) as client:
        found, odd = find_true_objects(EndpointSource(client), keys, sample)
        assert client.requests == 2
        assert not odd
        assert find_true_objects(EndpointSource(client), {"R1": set()}, sample)[0].empty
        assert client.requests == 2
    pairs = {("E1", "R1", "E2"), ("E1", "R1", "E3"), ("E2", "R2", "E1")}
    assert rows_of(found, *FACT_KEY) == pairs | {("E3", "R2", "E4"), ("E3", "R2", "E5")}
    assert found["best"].all()


# --- statements of every rank -----------------------------------------------------------------------------
WIKIDATA = GRAPHS["wikidata"]
DIRECT, CLAIM, VALUE, NODE = WIKIDATA.properties, *WIKIDATA.statements


def of_rank(entity: str, relation_id: str, value: str, number: int, best: bool = False) -> list[str]:
    """The lines of one statement; those of the best rank are said directly as well."""
    node, value = (
        f"<{NODE}{entity}-{number:08X}-0001>",
        value if value[0] in '"<_' else f"<{WIKIDATA.iri(value)}>",
    )
    subject = f"<{WIKIDATA.iri(entity.upper())}>"
    lines = [f"{subject} <{CLAIM}{relation_id}> {node} .", f"{node} <{VALUE}{relation_id}> {value} ."]
    lines += [f"{node} <http://www.wikidata.org/prop/qualifier/P26> <{WIKIDATA.iri('Q99')}> ."]
    return [*lines, f"{subject} <{DIRECT}{relation_id}> {value} ."] if best else lines


RANKED = [
    *of_rank("Q1", "P26", "Q2", 1, best=True),
    *of_rank("Q1", "P26", "Q3", 2),
    *of_rank("Q1", "P26", "Q3", 3),  # married twice
    *of_rank("q1", "P26", "Q4", 4),  # an old statement, of deprecated rank
    *of_rank("Q1", "P26", "<http://www.wikidata.org/.well-known/genid/ab12>", 5),
    *of_rank("Q1", "P26", '"1970"', 6),
    *of_rank("Q1", "P22", "Q5", 7, best=True),
    *of_rank("Q1", "P25", "Q6", 8),  # no relation that is asked for
    *of_rank("Q123456789012", "P22", "Q7", 9),
    f"<{NODE}Q1> <{VALUE}P26> <{WIKIDATA.iri('Q8')}> .",  # named like no statement
    f"<{NODE}Q01-1> <{VALUE}P26> <{WIKIDATA.iri('Q8')}> .",
    f"<{NODE}Q1-\\u0041> <{VALUE}P26>  <{WIKIDATA.iri('Q9')}> .",
]


@pytest.fixture(params=["store", "dump"])
def ranked(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Source]:
    (tmp_path / "graph.nt").write_text("\n".join(RANKED) + "\n")
    dump = request.param == "dump"
    if dump:
        load_dump(tmp_path / "graph.nt", tmp_path / "dump", WIKIDATA, ["P22", "P26"])
    else:
        lines = [*RANKED, f"<{WIKIDATA.iri('Q1')}> <{CLAIM}P26> <{NODE}Q1-A> .\n"]
        (tmp_path / "graph.nt").write_text("\n".join(lines))
        load_triples(tmp_path / "graph.nt", tmp_path / "store")
    with connect({"namespace": "wikidata", "source": request.param}, tmp_path / request.param) as source:
        yield source


def test_statements_of_every_rank_are_true(ranked: Source) -> None:
    found = ranked.stated_about(["Q1", "Q123456789012", "Q77"], ["P22", "P26"]).ids
    spouses = [("Q1", "P26", f"Q{n}") for n in (2, 3, 4, 9)]
    assert found == [("Q1", "P22", "Q5"), *spouses, ("Q123456789012", "P22", "Q7")]
    sample = as_sample([("Q1", "P26", "Q2"), ("Q1", "P22", "Q5")])
    more, _ = find_true_objects(ranked, {"P22": {"Q123456789012"}}, sample)
    assert rows_of(more) == {(*fact, False) for fact in (*spouses[1:], found[-1])}
    TRUE_OBJECTS.check(more)


def test_what_another_rank_says_is_true_but_no_part_of_a_case() -> None:
    names = Names(as_labels((f"E{i}", name, "en", None) for i, name in enumerate("ABCDE", start=1)), WORLD)
    sample = as_sample([("E1", "R1", "E2"), ("E5", "R1", "E3"), ("E5", "R1", "E4")])
    rows = [("E1", "R1", "E3", False), ("E1", "R1", "E2", False), ("E5", "R1", "E2", True)]
    beside = pd.DataFrame([*rows, ("E5", "R1", "E2", False)], columns=[*FACT_KEY, "best"])
    facts = filter_facts(sample, names, beside=beside)
    FACTS.check(facts)
    assert facts.set_index(FACT_KEY)["reason"].dropna().to_dict() == {
        ("E1", "R1", "E3"): OTHER_RANK,
        ("E5", "R1", "E2"): BESIDE,
    }
    index = FactIndex.from_frames(facts, facts.iloc[:0].assign(known=True))
    assert {Targets(index, {}, "test").draw("E1", "R1", (), generator(i, "draw")) for i in range(9)} == {"E4"}
    body = as_instances(("R2>R1", "E3", "E1", "E3"), ("R2>R1", "E2", "E5", "E2"))
    found = complete(sample[:0], body, sample[:0], head_holds=False, true_objects=beside)
    assert rows_of(found) == {("E3", "R2", "E1"), ("E2", "R2", "E5"), ("E5", "R1", "E2")}


def test_what_was_not_sampled_is_true_but_no_part_of_a_case() -> None:
    labels = as_labels((f"E{i}", name, "en", None) for i, name in enumerate("ABCDEc", start=1))
    names = Names(labels, WORLD)
    sample = as_sample([("E1", "R1", "E2"), ("E5", "R1", "E3"), ("E5", "R1", "E4"), ("E2", "R2", "E1")])
    beside = as_sample([("E1", "R1", "E2"), ("E1", "R1", "E6")]).assign(
        best=True
    )  # E6 has the label of E3 but for its case
    facts = filter_facts(sample, names, beside=beside)
    FACTS.check(facts)
    assert facts.loc[facts["reason"] == BESIDE, "object_id"].tolist() == ["E6"]
    index = FactIndex.from_frames(facts, facts.iloc[:0].assign(known=True))
    assert index.objects["E1", "R1"] == ("E2", "E6")
    assert "E6" not in index.pools["R1"]
    targets = Targets(index, {}, "test")
    assert {targets.draw("E1", "R1", (), generator(i, "draw")) for i in range(20)} == {"E4"}
    instances = as_instances(("R2>R1", "E2", "E1", "E2"))
    unique = filter_instances(instances, facts, names, Limits(unique_answers=True))
    assert unique["reason"].tolist() == ["the head's subject has several objects"]
    assert filter_instances(instances, facts, names)["kept"].all()


def test_heads_that_were_not_asked_for_are_taken_where_they_hold() -> None:
    instances = as_instances(("R2>R1", "E2", "E1", "E2"), ("R2>R1", "E4", "E3", "E4"))
    beside = as_sample([("E1", "R1", "E2"), ("E3", "R1", "E2")]).assign(best=True)
    sample = as_sample([("E9", "R2", "E9")])
    found = complete(sample, instances, sample[:0], head_holds=False, true_objects=beside)
    body = {("E2", "R2", "E1"), ("E4", "R2", "E3"), ("E9", "R2", "E9")}
    assert rows_of(found) == body | {("E1", "R1", "E2")}
    held = complete(sample, instances, sample[:0], head_holds=True, true_objects=beside)
    assert rows_of(held) == body | {("E1", "R1", "E2"), ("E3", "R1", "E4")}
