"""From files of triples to a store, and from a graph to tables: facts, instances, one-to-many keys."""

import bz2
import gzip
import itertools
import random
from collections.abc import Callable, Iterator

import pandas as pd
import pyoxigraph
import pytest

from aftershock.kg import blocks
from aftershock.kg.blocks import read_blocks
from aftershock.kg.client import Client
from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.endpoint import serve
from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.graph import GRAPHS
from aftershock.kg.logic import LogicRule
from aftershock.kg.pages import PageSize, fetch
from aftershock.kg.queries import Pattern, facts, instances, neighbourhood
from aftershock.kg.sample import sample_facts
from aftershock.kg.sampling import iri_hash
from aftershock.kg.store import load_triples
from aftershock.tables.graph import COMBINATIONS, OBJECTS, SAMPLE
from graphs import LABEL, SAME_AS, WORLD, Fact, as_sample, client_of, rows_of, store_of, triple
from tiers import repeated
from worlds import joined

RELATIONS_USED = ("R1", "R2", "R3", "R4")
RULES_USED = [
    *(LogicRule((one,), other) for one, other in itertools.product(RELATIONS_USED[:2], repeat=2)),
    *(LogicRule((one, two), head) for one, two, head in itertools.product(RELATIONS_USED[:3], repeat=3)),
]
INSTANCE = ("x_id", "y_id", "z_id")
LANGUAGES = ("en", "mul", "de", "en", "mul", "EN", "en-gb")
XSD = "http://www.w3.org/2001/XMLSchema#"
ODD = {"literal": 3, "unknown value": 3, "IRI that is no entity": 2}
"""The dirty triples that are no facts."""


def random_facts() -> set[Fact]:
    """About 150 facts between 14 entities, some of an entity about itself."""
    rng = random.Random(0)
    entities = [f"E{number}" for number in range(14)]
    return {(rng.choice(entities), rng.choice(RELATIONS_USED), rng.choice(entities)) for _ in range(160)}


def dirty_triples() -> str:
    """The random facts as N-Triples, and statements that link no entities."""
    lines = [triple(*fact) for fact in sorted(random_facts())]
    lines += [
        triple("E1", "R1", '"1970"'),
        *(triple("E1", "R1", f'"1970"^^<{XSD}{kind}>') for kind in ("gYear", "integer")),
        triple("E1", "R1", f"<{WORLD.entities.replace('entity/', '.well-known/genid/')}ab12>"),
        triple("E2", "R2", "<http://example.org/E3>"),
        triple("E2", "R2", "_:nobody"),
        f"_:nobody <{WORLD.properties}R2> <{WORLD.iri('E2')}> .\n",
        triple("R1", "R3", "E3"),
        *(triple(f"E{n}", LABEL, f'"name {n}"@{language}') for n, language in enumerate(LANGUAGES)),
        triple("E1", LABEL, '"of two the English one"@en'),
        triple("E9", SAME_AS, "E10"),
        triple("E10", LABEL, '"end"@en'),
    ]
    return "".join(lines)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with client_of(dirty_triples()) as found:
        yield found


# --- row sets: endpoint and loops; other engines are in test_kg_sources ---------------------------------
def test_instances_equal_those_of_loops(client: Client) -> None:
    counts = []
    for rule in RULES_USED:
        found, _ = find_combinations(EndpointSource(client), rule, 10_000, seed=0)
        COMBINATIONS.check(found)
        rows = rows_of(found, *INSTANCE)
        assert rows == rows_of(joined(as_sample(random_facts()), [str(rule)]), *INSTANCE), rule
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
    lines = [graph.prefixes.splitlines() for graph in (WORLD, GRAPHS["wikidata"])]
    assert [one == other for one, other in zip(*lines, strict=True)] == [False, False, True, True]
    pattern = Pattern(("s",), "?s wdt:R1 ?o").among("s", ["E1", "E2"]).hashed_below(7, "0f", ("s",))
    condition = 'SUBSTR(MD5(CONCAT("7", STR(?s))), 1, 2) < "0f"'
    among = "VALUES ?s { wd:E1 wd:E2 }"
    assert pattern.rows == f"SELECT ?s WHERE {{ {among} ?s wdt:R1 ?o FILTER({condition}) }}"


def test_many_combinations_are_sampled_by_hash(client: Client) -> None:
    rule = LogicRule.parse("R1&R2>R3")
    every, some, again, other = (
        find_combinations(EndpointSource(client), rule, most, seed)[0]
        for most, seed in ((10_000, 5), (10, 5), (10, 5), (10, 6))
    )
    assert len(every) > 10 == len(some)
    pd.testing.assert_frame_equal(some, again)
    assert rows_of(some) != rows_of(other)
    rows = sorted(rows_of(every, *INSTANCE), key=lambda row: iri_hash(5, *map(WORLD.iri, row)))
    assert set(rows[:10]) == rows_of(some, *INSTANCE)


# --- facts ----------------------------------------------------------------------------------------------
def test_a_small_graph_is_taken_whole_and_what_is_no_fact_is_counted(client: Client) -> None:
    found, odd = sample_facts(EndpointSource(client), RELATIONS_USED, max_facts=10_000, seed=0)
    SAMPLE.check(found)
    assert rows_of(found) == random_facts()
    assert odd == ODD


@pytest.fixture(scope="module")
def large() -> tuple[set[Fact], pyoxigraph.Store]:
    """About 3000 facts between 1500 entities."""
    rng = random.Random(0)
    entities = [f"E{number}" for number in range(1500)]
    every = {(rng.choice(entities), rng.choice(RELATIONS_USED), rng.choice(entities)) for _ in range(3000)}
    return every, store_of(triple(*fact) for fact in every)


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
    assert rows_of(found) == taken
    assert 390 <= len(taken) <= 400


def test_a_sample_needs_room_for_one_entity(large) -> None:
    with serve(large[1]) as url, pytest.raises(ValueError, match="max_facts = 1 is less than .* raise it"):
        sample_facts(EndpointSource(Client(url, WORLD)), RELATIONS_USED, max_facts=1, seed=0)


def test_relations_without_facts_are_named(client: Client, caplog) -> None:
    sample_facts(EndpointSource(client), ["R1", "R9"], max_facts=10_000, seed=0)
    assert "relation R9 of relations.tsv has no fact" in caplog.text
    with pytest.raises(ValueError, match="no fact of any world relation in relations.tsv.*namespace"):
        sample_facts(EndpointSource(client), ["R8", "R9"], max_facts=10_000, seed=0)


def test_objects_are_complete_where_there_are_two_to_ten(client: Client) -> None:
    found, _ = find_objects(EndpointSource(client), "R1", least=2, most=4)
    OBJECTS.check(found)
    expected = set()
    for subject in {s for s, _, _ in random_facts()}:
        own = {fact for fact in random_facts() if fact[:2] == (subject, "R1")}
        expected |= own if 2 <= len(own) <= 4 else set()
    assert rows_of(found) == expected
    nothing, _ = find_objects(EndpointSource(client), "R9")
    assert OBJECTS.check(nothing).num_rows == 0


def test_a_kept_rule_without_instances_is_a_note(client: Client, caplog) -> None:
    found, _ = find_combinations(EndpointSource(client), LogicRule.parse("R9>R1"), 10, seed=0)
    assert COMBINATIONS.check(found).num_rows == 0
    assert "rule R9>R1 of rules.tsv has no instance in this graph" in caplog.text


TEXT = b"".join(b"line %d %s\n" % (number, b"x" * (number % 700)) for number in range(3000))
GZ, BZ2 = gzip.compress(TEXT), bz2.compress(TEXT)
PACKED = {
    "plain.nt": TEXT,
    "one.nt.gz": GZ,
    "members.nt.gz": gzip.compress(TEXT[:5000]) + bytes(9) + gzip.compress(b"") + gzip.compress(TEXT[5000:]),
    "padded.nt.gz": GZ + bytes(5000),
    "dense.nt.gz": gzip.compress(b"y" * 3_000_000 + b"\n" + TEXT),
    "one.nt.bz2": BZ2,
    "streams.nt.bz2": bz2.compress(TEXT[:5000]) + bz2.compress(TEXT[5000:]),
}


@pytest.mark.parametrize("sizes", [(2**18, 2**22), (7, 100), repeated((100, 1000)), repeated((5000, 333))])
@pytest.mark.parametrize("name", PACKED)
def test_blocks_are_whole_lines_of_the_text(tmp_path, monkeypatch, name: str, sizes: tuple[int, int]) -> None:
    monkeypatch.setattr(blocks, "READ", sizes[0])
    monkeypatch.setattr(blocks, "DECODED", sizes[1])
    (tmp_path / name).write_bytes(PACKED[name])
    found = list(read_blocks(tmp_path / name))
    assert all(block.endswith(b"\n") for block in found)
    expected = b"y" * 3_000_000 + b"\n" + TEXT if name.startswith("dense") else TEXT
    assert b"".join(found) == expected


def test_a_last_line_without_a_break_gets_one(tmp_path) -> None:
    (tmp_path / "a.nt").write_bytes(b"one\ntwo")
    assert b"".join(read_blocks(tmp_path / "a.nt")) == b"one\ntwo\n"


SPOILED = {
    "cut.nt.gz": (GZ[:-3], "cut.nt.gz, at byte {size} .*gzip -t cut.nt.gz"),
    "half.nt.gz": (GZ[:900], "at byte {size} .*ends early"),
    "crc.nt.gz": (GZ[:-8] + bytes(4) + GZ[-4:], "incorrect data check"),
    "length.nt.gz": (GZ[:-1] + b"\xff", "incorrect length check"),
    "flipped.nt.gz": (GZ[:60] + b"\xff\xff\xff" + GZ[63:], "flipped.nt.gz, at byte"),
    "second.nt.gz": (GZ + b"no gzip", "incorrect header check"),
    "plain.nt.gz": (TEXT, "incorrect header check"),
    "cut.nt.bz2": (BZ2[:-3], "cut.nt.bz2, at byte {size} .*bzip2 -t cut.nt.bz2"),
    "flipped.nt.bz2": (BZ2[:60] + b"\xff\xff" + BZ2[62:], "Invalid data"),
    "plain.nt.bz2": (TEXT, "Invalid data stream"),
    "graph.ttl": (TEXT, r"is not named .nt, .nt.gz, .nt.bz2; give an N-Triples file"),
    "wide.nt": (b"x" * 5000, "has a line of more than 4096 bytes"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_broken_file_is_named_with_the_byte(tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.setattr(blocks, "LONGEST", 4096)
    data, message = SPOILED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message.format(size=len(data))):
        list(read_blocks(tmp_path / name))


DIRTY = dirty_triples().encode()
DIRTY_GZ = gzip.compress(DIRTY)
BROKEN = {
    "cut.nt": (DIRTY[: DIRTY.index(b"\n", 500) - 7], "cut.nt, line [0-9]+: .*ends early; get a whole copy"),
    "cut.nt.gz": (DIRTY_GZ[:-30], "cut.nt.gz, after line [0-9]+: .*gzip -t cut.nt.gz"),
    "flipped.nt.gz": (DIRTY_GZ[:60] + b"\xff\xff" + DIRTY_GZ[62:], "after line 0"),
    "plain.nt.gz": (DIRTY, "Not a gzipped file"),
    "cut.nt.bz2": (bz2.compress(DIRTY)[:-30], "after line [0-9]+: .*bzip2 -t cut.nt.bz2"),
    "plain.nt.bz2": (DIRTY, "Invalid data stream"),
    "table.nt": (DIRTY + b"subject\tpredicate\n", "table.nt, line 1[0-9]+: "),
    "latin.nt": (DIRTY.replace(b'"1970"', b'"\xe4"'), "latin.nt, line [0-9]+: .*UTF-8"),
    "empty.nt": (b"", "holds no triple"),
    "graph.ttl": (DIRTY, "is not named .nt or .nt.gz or .nt.bz2"),
}


@pytest.mark.parametrize(
    ("name", "pack"), [("a.nt", bytes), ("a.nt.gz", gzip.compress), ("a.nt.bz2", bz2.compress)]
)
def test_a_file_becomes_a_store(tmp_path, name: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / name).write_bytes(pack(DIRTY))
    assert load_triples(tmp_path / name, tmp_path / "store") == len(DIRTY.splitlines())


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_the_line(tmp_path, name: str) -> None:
    data, message = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load_triples(tmp_path / name, tmp_path / "store")
