"""From a graph to tables: facts, rules, instances, one-to-many keys."""

import itertools
import random
from collections.abc import Iterator

import duckdb
import pandas as pd
import pyoxigraph
import pytest
import rdflib

from aftershock.kg.client import Client
from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.endpoint import serve
from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.graph import GRAPHS
from aftershock.kg.logic import LogicRule
from aftershock.kg.pages import PageSize, fetch
from aftershock.kg.queries import Pattern, facts, instances, neighbourhood
from aftershock.kg.rules import Thresholds, mine_rules
from aftershock.kg.sample import sample_facts
from aftershock.kg.sampling import iri_hash
from aftershock.tables.graph import COMBINATIONS, OBJECTS, RELATIONS, RULES, SAMPLE

WORLD, WIKIDATA = GRAPHS["world"], GRAPHS["wikidata"]
RELATIONS_USED = ("R1", "R2", "R3", "R4")
RULES_USED = [
    *(LogicRule((one,), other) for one, other in itertools.product(RELATIONS_USED[:2], repeat=2)),
    *(LogicRule((one, two), head) for one, two, head in itertools.product(RELATIONS_USED[:3], repeat=3)),
]
NO_RULES = pd.DataFrame(columns=["rule", "status", "reason"])
EVERYTHING = Thresholds(min_support=0, min_head_coverage=0.0, min_pca_confidence=0.0)

Fact = tuple[str, str, str]


def triple(subject: str, relation_id: str, term: str) -> str:
    """One line of N-Triples; an object that is no entity id is given as a term."""
    ending = f"<{WORLD.iri(term)}>" if WORLD.is_entity_id(term) else term
    return f"<{WORLD.iri(subject)}> <{WORLD.properties}{relation_id}> {ending} .\n"


def random_facts(seed: int) -> set[Fact]:
    """About 150 facts between 14 entities, some of an entity about itself."""
    rng = random.Random(seed)
    entities = [f"E{number}" for number in range(14)]
    return {(rng.choice(entities), rng.choice(RELATIONS_USED), rng.choice(entities)) for _ in range(160)}


def dirty_triples(seed: int) -> str:
    """The random facts as N-Triples, and statements that link no entities."""
    lines = [triple(*fact) for fact in sorted(random_facts(seed))]
    lines += [
        triple("E1", "R1", '"1970"'),
        triple("E1", "R1", f"<{WORLD.entities.replace('entity/', '.well-known/genid/')}ab12>"),
        triple("E2", "R2", "<http://example.org/E3>"),
        triple("E2", "R2", "_:nobody"),
        f"_:nobody <{WORLD.properties}R2> <{WORLD.iri('E2')}> .\n",
        f"<{WORLD.iri('R1')}> <{WORLD.properties}R3> <{WORLD.iri('E3')}> .\n",
    ]
    return "".join(lines)


@pytest.fixture(scope="module")
def seed() -> int:
    return 0


@pytest.fixture(scope="module")
def client(seed: int) -> Iterator[Client]:
    store = pyoxigraph.Store()
    store.load(input=dirty_triples(seed).encode(), format=pyoxigraph.RdfFormat.N_TRIPLES)
    with serve(store) as url:
        yield Client(url, WORLD)


# --- row sets: endpoint, DuckDB, rdflib ------------------------------------------------------------------


def duckdb_rows(rule: LogicRule, found: set[Fact]) -> set[tuple[str, ...]]:
    """Instances of a rule by SQL."""
    frame = pd.DataFrame(sorted(found), columns=["s", "r", "o"])
    db = duckdb.connect(config={"threads": 1})
    db.register("facts", frame)
    if len(rule.body) == 1:
        query = """
            SELECT a.s, a.o, a.s FROM facts a JOIN facts h ON h.s = a.o AND h.o = a.s
            WHERE a.r = ? AND h.r = ?"""
    else:
        query = """
            SELECT a.s, a.o, b.o
            FROM facts a JOIN facts b ON b.s = a.o JOIN facts h ON h.s = a.s AND h.o = b.o
            WHERE a.r = ? AND b.r = ? AND h.r = ?"""
    rows = db.execute(query, list(rule.relations)).fetchall()
    return {(x, y, z) for x, y, z in rows if len({x, y, z}) == len(rule.body) + 1}


def test_instances_equal_those_of_two_other_engines(client: Client, seed: int) -> None:
    other = rdflib.Graph().parse(data=dirty_triples(seed), format="nt")
    counts = []
    for rule in RULES_USED:
        found, _ = find_combinations(EndpointSource(client), rule, 10_000, seed=0)
        COMBINATIONS.check(found)
        rows = set(found[["x_id", "y_id", "z_id"]].itertuples(index=False, name=None))
        assert rows == duckdb_rows(rule, random_facts(seed)), rule
        read = {tuple(map(str, row)) for row in other.query(WORLD.prefixes + instances(rule).rows)}
        ids = {tuple(iri.removeprefix(WORLD.entities) for iri in row) for row in read}
        clean = {row for row in ids if all(map(WORLD.is_entity_id, row)) and len(set(row)) == len(row)}
        assert {(*row, *row[: 3 - len(row)]) for row in clean} == rows, rule
        counts.append(len(rows))
    assert sum(counts) > 200


def test_pages_of_any_size_give_the_same_rows(client: Client) -> None:
    smallest, *sizes = PageSize(rows=1, values=1), PageSize(rows=3, values=200), PageSize(rows=7, values=2)
    for pattern, by, tried in (
        (facts("R1"), ("s",), (smallest, *sizes)),
        (instances(LogicRule.parse("R1&R2>R3")), ("y", "x"), sizes),
        (instances(LogicRule.parse("R2&R2>R2")), ("y",), sizes),
        (neighbourhood(RELATIONS_USED), ("s",), sizes),
    ):
        whole = fetch(client, pattern, by)
        for size in tried:
            paged = fetch(client, pattern, by, size=size)
            assert paged.ids == whole.ids == sorted(set(whole.ids))
            assert paged.odd == whole.odd


def test_queries_of_two_graphs_differ_in_two_lines_only() -> None:
    lines = [graph.prefixes.splitlines() for graph in (WORLD, WIKIDATA)]
    assert [one == other for one, other in zip(*lines, strict=True)] == [False, False, True, True]
    pattern = Pattern(("s",), "?s wdt:R1 ?o").among("s", ["E1", "E2"]).hashed_below(7, "0f", ("s",))
    condition = 'SUBSTR(MD5(CONCAT("7", STR(?s))), 1, 2) < "0f"'
    assert (
        pattern.rows == f"SELECT ?s WHERE {{ VALUES ?s {{ wd:E1 wd:E2 }} ?s wdt:R1 ?o FILTER({condition}) }}"
    )


def test_many_combinations_are_sampled_by_hash(client: Client, seed: int) -> None:
    rule = LogicRule.parse("R1&R2>R3")
    every, _ = find_combinations(EndpointSource(client), rule, 10_000, seed=5)
    some, _ = find_combinations(EndpointSource(client), rule, 10, seed=5)
    again, _ = find_combinations(EndpointSource(client), rule, 10, seed=5)
    other, _ = find_combinations(EndpointSource(client), rule, 10, seed=6)
    assert len(every) > 10 == len(some)
    pd.testing.assert_frame_equal(some, again)
    assert set(map(tuple, some.to_numpy())) != set(map(tuple, other.to_numpy()))
    columns = ["x_id", "y_id", "z_id"]
    rows = sorted(every[columns].itertuples(index=False), key=lambda row: iri_hash(5, *map(WORLD.iri, row)))
    assert set(rows[:10]) == set(some[columns].itertuples(index=False))


# --- facts ----------------------------------------------------------------------------------------------


def test_a_small_graph_is_taken_whole_and_what_is_no_fact_is_counted(client: Client, seed: int) -> None:
    found, odd = sample_facts(EndpointSource(client), RELATIONS_USED, max_facts=10_000, seed=0)
    SAMPLE.check(found)
    assert set(found.itertuples(index=False, name=None)) == random_facts(seed)
    assert odd == {"literal": 1, "unknown value": 3, "IRI that is no entity": 2}


@pytest.fixture(scope="module")
def large() -> tuple[set[Fact], pyoxigraph.Store]:
    """About 3000 facts between 1500 entities."""
    rng = random.Random(0)
    entities = [f"E{number}" for number in range(1500)]
    every = {(rng.choice(entities), rng.choice(RELATIONS_USED), rng.choice(entities)) for _ in range(3000)}
    store = pyoxigraph.Store()
    text = "".join(triple(*fact) for fact in every)
    store.load(input=text.encode(), format=pyoxigraph.RdfFormat.N_TRIPLES)
    return every, store


def test_a_large_graph_is_sampled_by_entity(large) -> None:
    every, store = large
    with serve(store) as url:
        found, _ = sample_facts(EndpointSource(Client(url, WORLD)), RELATIONS_USED, max_facts=400, seed=3)
    taken: set[Fact] = set()
    for subject in sorted({s for s, _, _ in every}, key=lambda entity: iri_hash(3, WORLD.iri(entity))):
        own = {fact for fact in every if fact[0] == subject}
        objects = {o for _, _, o in own}
        more = taken | own | {fact for fact in every if fact[0] in objects}
        if len(more) > 400:
            break
        taken = more
    assert set(found.itertuples(index=False, name=None)) == taken
    assert 390 <= len(taken) <= 400


def test_a_sample_needs_room_for_one_entity(large) -> None:
    with serve(large[1]) as url, pytest.raises(ValueError, match="max_facts = 1 is less than .* raise it"):
        sample_facts(EndpointSource(Client(url, WORLD)), RELATIONS_USED, max_facts=1, seed=0)


def test_relations_without_facts_are_named(client: Client, caplog) -> None:
    sample_facts(EndpointSource(client), ["R1", "R9"], max_facts=10_000, seed=0)
    assert "relation R9 of relations.tsv has no fact" in caplog.text
    with pytest.raises(ValueError, match="no fact of any world relation in relations.tsv.*namespace"):
        sample_facts(EndpointSource(client), ["R8", "R9"], max_facts=10_000, seed=0)


def test_objects_are_complete_where_there_are_two_to_ten(client: Client, seed: int) -> None:
    found, _ = find_objects(EndpointSource(client), "R1", least=2, most=4)
    OBJECTS.check(found)
    expected = set()
    for subject in {s for s, _, _ in random_facts(seed)}:
        own = {fact for fact in random_facts(seed) if fact[:2] == (subject, "R1")}
        expected |= own if 2 <= len(own) <= 4 else set()
    assert set(found.itertuples(index=False, name=None)) == expected
    nothing, _ = find_objects(EndpointSource(client), "R9")
    assert OBJECTS.check(nothing).num_rows == 0


# --- rules ----------------------------------------------------------------------------------------------


def naive_measures(rule: LogicRule, found: set[Fact]) -> tuple[float, ...]:
    """Support, head coverage, standard and PCA confidence by trying all pairs and triples."""
    pairs = {r: {(s, o) for s, relation_id, o in found if relation_id == r} for r in RELATIONS_USED}
    head = pairs[rule.head]
    if len(rule.body) == 1:
        body = {(y, x) for x, y in pairs[rule.body[0]]}
    else:
        first, second = (pairs[r] for r in rule.body)
        body = {(x, z) for x, y in first for other, z in second if y == other}
    subjects, objects = {s for s, _ in head}, {o for _, o in head}
    known = {p for p in body if (p[0] in subjects if len(subjects) >= len(objects) else p[1] in objects)}
    support = len(body & head)
    return support, support / len(head), support / len(body), support / len(known) if known else 0.0


def test_measures_equal_a_naive_reference(seed: int) -> None:
    found = random_facts(seed)
    rules, relations = mine_rules(as_sample(found), RELATIONS_USED, NO_RULES, EVERYTHING)
    RULES.check(rules)
    RELATIONS.check(relations)
    assert len(rules) > 60
    for row in rules.itertuples():
        measures = row.support, row.head_coverage, row.std_confidence, row.pca_confidence
        assert measures == pytest.approx(naive_measures(LogicRule.parse(row.rule), found)), row.rule
    supported = set(rules["rule"])
    for binary in itertools.product(RELATIONS_USED, repeat=2):
        rule = LogicRule(binary[:1], binary[1])
        assert (str(rule) in supported) == (naive_measures(rule, found)[0] > 0)


def as_sample(found: set[Fact]) -> pd.DataFrame:
    return pd.DataFrame(sorted(found), columns=["subject_id", "relation_id", "object_id"])


def test_measures_worked_out_by_hand() -> None:
    # Fathers (R1): a>f, b>f, c>g, d>h. Children (R2): f>a, f>b, g>e, and k>d, who is no one's father here.
    found = {("E1", "R1", "E6"), ("E2", "R1", "E6"), ("E3", "R1", "E7"), ("E4", "R1", "E8")}
    found |= {("E6", "R2", "E1"), ("E6", "R2", "E2"), ("E7", "R2", "E5"), ("E9", "R2", "E4")}
    rules, relations = mine_rules(as_sample(found), ["R1", "R2", "R3"], NO_RULES, Thresholds())
    row = rules.set_index("rule").loc["R1>R2"]
    assert row["support"] == 2  # (f, a) and (f, b)
    assert row["head_coverage"] == 2 / 4
    assert row["std_confidence"] == 2 / 4  # predicted: (f, a), (f, b), (g, c), (h, d)
    # R2 has 3 subjects and 4 objects, so predictions about objects with some parent count: a, b and d.
    assert row["pca_confidence"] == 2 / 3
    assert relations.set_index("relation_id").loc["R1", "functionality"] == 1.0
    assert relations.set_index("relation_id").loc["R2", "functionality"] == 3 / 4
    assert relations.set_index("relation_id").loc["R3", "facts"] == 0


def test_thresholds_and_the_sheet_decide_which_rules_are_listed(seed: int) -> None:
    sample = as_sample(random_facts(seed))
    sheet = pd.DataFrame(
        [("R1&R1>R4", "keep", "by hand"), ("R9>R1", "keep", "no facts"), ("R2>R2", "drop", "nonsense")],
        columns=["rule", "status", "reason"],
    )
    strict = Thresholds(min_support=3, min_head_coverage=0.2, min_pca_confidence=0.4)
    every, _ = mine_rules(sample, [*RELATIONS_USED, "R9"], NO_RULES, EVERYTHING)
    rules, _ = mine_rules(sample, [*RELATIONS_USED, "R9"], sheet, strict)
    RULES.check(rules)
    enough = every[
        (every["support"] >= 3) & (every["head_coverage"] >= 0.2) & (every["pca_confidence"] >= 0.4)
    ]
    assert set(rules["rule"]) == set(enough["rule"]) | set(sheet["rule"])
    by_rule = rules.set_index("rule")
    assert by_rule.loc[sheet["rule"], "status"].tolist() == ["keep", "keep", "drop"]
    assert set(rules.loc[~rules["rule"].isin(sheet["rule"]), "status"]) <= {"review"}
    assert by_rule.loc["R9>R1", "support"] == 0
    assert by_rule.loc["R9>R1", "reason"] == (
        "no facts; support 0 is below 3; head_coverage 0 is below 0.2; pca_confidence 0 is below 0.4"
    )


def test_rules_about_unlisted_relations_are_named(seed: int) -> None:
    sheet = pd.DataFrame([("R1&R8>R1", "keep", "?")], columns=["rule", "status", "reason"])
    with pytest.raises(ValueError, match="rules.tsv: rule R1&R8>R1 names R8, not in relations.tsv"):
        mine_rules(as_sample(random_facts(seed)), RELATIONS_USED, sheet, Thresholds())


def test_a_kept_rule_without_instances_is_a_note(client: Client, caplog) -> None:
    found, _ = find_combinations(EndpointSource(client), LogicRule.parse("R9>R1"), 10, seed=0)
    assert COMBINATIONS.check(found).num_rows == 0
    assert "rule R9>R1 of rules.tsv has no instance in this graph" in caplog.text


@pytest.mark.parametrize("text", ["R1", "R1>", ">R1", "R1&R2&R3>R4", "R1&>R2", "R1 > R2", "R1>R2>R3"])
def test_rules_that_are_not_written_as_rules(text: str) -> None:
    with pytest.raises(ValueError, match="is neither of the form R1>R2 nor R1&R2>R3"):
        LogicRule.parse(text)
