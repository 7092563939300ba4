"""A dump is read as other programs read it, whatever its compression and however its lines look."""

import bz2
import gzip
import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pyoxigraph
import pytest

from aftershock.kg import blocks, partitions
from aftershock.kg.dump import DumpReader
from aftershock.kg.dump_source import DumpSource
from aftershock.kg.graph import Term
from aftershock.kg.logic import LogicRule
from aftershock.kg.pages import Found
from aftershock.kg.partitions import load_dump
from aftershock.kg.terms import read_triple, term_number
from aftershock.kg.words import Words
from dump_lines import DIRECT, ENTITY, USED, WIKIDATA, parsed, random_lines
from graphs import LABEL, WORLD


# --- lines ----------------------------------------------------------------------------------------------
def test_words_of_one_length_and_ending_are_refused() -> None:
    with pytest.raises(ValueError, match="same length and ending"):
        Words([b"<http://a.bcd/P1>", b"<http://c.bcd/P1>"])


@pytest.mark.parametrize("seed", range(3))
def test_lines_say_what_another_parser_reads(seed: int) -> None:
    lines = random_lines(seed)
    facts, labels, redirects = parsed(lines)
    found = DumpReader(WIKIDATA, USED).read("".join(lines).encode())
    assert found.lines == len(lines)
    assert found.broken == []
    numbers = {(r, term_number(WIKIDATA, s), term_number(WIKIDATA, o)) for r, s, o in facts}
    rows = [row for part in found.facts for row in zip(*map(np.ndarray.tolist, part), strict=True)]
    read = {(USED[r], s, o) for r, s, o in rows}
    assert read == numbers
    assert {(f"Q{entity}", language, label) for entity, language, label in found.labels} == labels
    pairs = {(f"Q{s}", f"Q{o}") for part in found.redirects for s, o in zip(*part, strict=True)}
    assert pairs == redirects
    odd = {t for _, *ends in facts for t in ends if WIKIDATA.entity_id(t) is None}
    assert found.oddities == {term_number(WIKIDATA, term): WIKIDATA.oddity(term) for term in odd}
    assert min(len(read), len(labels), len(redirects), len(odd)) > 10


BROKEN = [
    f"<{ENTITY}Q1> <{DIRECT}P22> <{ENTITY}Q2> <http://graph> .",
    f"<{ENTITY}Q1> <{DIRECT}P22> <{ENTITY}Q2>",
    f"<{ENTITY}Q1> <{DIRECT}P22> .",
    f"<{ENTITY}Q1> <{DIRECT}P22> <{ENTITY}Q2 3> .",
    f"<{ENTITY}Q1> <{DIRECT}P22> <{ENTITY}Q\\u12> .",
    f"<{ENTITY}Q1> <{DIRECT}P22> Q2 .",
    f'<{ENTITY}Q1> {LABEL} "a"b"@en .',
    f'<{ENTITY}Q1> {LABEL} "a\\xb"@en .',
    f'<{ENTITY}Q1> {LABEL} "a\\uD83D\\uDE00b"@en .',
    f'<{ENTITY}Q1> <{DIRECT}P22> "\\uDE00" .',
    "subject\tpredicate\tobject",
    '{"id": "Q1"}',
    "<html>",
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_line_that_is_no_statement_is_given_back(line: str) -> None:
    with pytest.raises(SyntaxError):
        list(pyoxigraph.parse(f"{line}\n".encode(), format=pyoxigraph.RdfFormat.N_TRIPLES))
    good = f"<{ENTITY}Q1> <{DIRECT}P22> <{ENTITY}Q2> ."
    found = DumpReader(WIKIDATA, USED).read(f"{good}\n{line}\n{good}\n".encode())
    assert found.broken == [line.encode()]
    assert sum(len(places) for places, _, _ in found.facts) == 2


def test_text_that_is_not_utf8_is_given_back() -> None:
    line = f"<{ENTITY}Q1> {LABEL} ".encode() + b'"\xe4"@en .'
    assert DumpReader(WIKIDATA, USED).read(line + b"\n").broken == [line]


def test_a_term_has_one_number() -> None:
    line = f'<{ENTITY}Q1> <{DIRECT}P22> "é" .'
    _, _, plain = read_triple(line.encode())
    _, _, escaped = read_triple(line.replace("é", "\\u00E9").encode())
    assert plain == escaped == Term("literal", "é")
    assert term_number(WIKIDATA, plain) == term_number(WIKIDATA, escaped) < 0
    others = [plain._replace(**change) for change in ({"language": "en"}, {"kind": "uri"}, {"kind": "bnode"})]
    assert len({term_number(WIKIDATA, term) for term in (plain, *others)}) == 4


# --- tables ---------------------------------------------------------------------------------------------
def facts_of(folder: Path) -> set[tuple[str, int, int]]:
    files = (folder / "facts").glob("*.parquet")
    return {(file.stem, *row.values()) for file in files for row in pq.read_table(file).to_pylist()}


@pytest.mark.parametrize("ending", [".nt", ".nt.gz", ".nt.bz2"])
def test_tables_hold_each_fact_once_and_sorted(tmp_path, monkeypatch, ending: str) -> None:
    monkeypatch.setattr(partitions, "BUFFERED", 50)
    monkeypatch.setattr(partitions, "BATCHES", 3)
    monkeypatch.setattr(blocks, "DECODED", 10_000)
    lines = random_lines(0) * 2
    text = "".join(lines).encode()
    packed = {".nt": bytes, ".nt.gz": gzip.compress, ".nt.bz2": bz2.compress}[ending](text)
    (tmp_path / f"dump{ending}").write_bytes(packed)
    described = load_dump(tmp_path / f"dump{ending}", tmp_path / "dump", WIKIDATA, USED)
    assert (described["lines"], described["broken"]) == (len(lines), 0)
    facts, labels, redirects = parsed(lines)
    numbers = {(r, term_number(WIKIDATA, s), term_number(WIKIDATA, o)) for r, s, o in facts}
    assert facts_of(tmp_path / "dump") == numbers
    table = duckdb.read_parquet(str(tmp_path / "dump/facts/P22.parquet")).fetchall()
    assert table == sorted(set(table))
    named = set(duckdb.read_parquet(str(tmp_path / "dump/labels.parquet")).fetchall())
    assert {(f"Q{entity}", language, label) for entity, language, label in named} == labels
    moved = duckdb.read_parquet(str(tmp_path / "dump/redirects.parquet")).fetchall()
    assert sorted((f"Q{s}", f"Q{o}") for s, o in moved) == sorted(redirects)
    assert {path.name for path in tmp_path.iterdir()} == {f"dump{ending}", "dump"}


def statements(count: int) -> list[str]:
    return [f"<{ENTITY}Q{number}> <{DIRECT}P22> <{ENTITY}Q1> .\n" for number in range(count)]


def test_few_broken_lines_are_counted_and_the_first_is_shown(tmp_path, caplog) -> None:
    lines = statements(2000)
    lines[700:700] = ["a broken line\n"]
    lines[1500:1500] = ["another\n"]
    (tmp_path / "a.nt").write_text("".join(lines))
    described = load_dump(tmp_path / "a.nt", tmp_path / "dump", WIKIDATA, USED)
    assert (described["broken"], described["first_broken"]) == (2, "a broken line")
    assert "2 of 2002 lines are no N-Triples, the first is 'a broken line'" in caplog.text
    assert len(facts_of(tmp_path / "dump")) == 2000


NO_DUMP = {
    "many.nt": ("".join(statements(900)) + "a broken line\n", "1 of the first 901 lines .* 'a broken line'"),
    "page.nt": ("<html>\n<body>\n" * 9000, "of the first .* lines are no N-Triples, the first is '<html>'"),
    "empty.nt": ("", "empty.nt holds no triple"),
}


@pytest.mark.parametrize("name", NO_DUMP)
def test_what_is_no_dump_leaves_no_tables(tmp_path, name: str) -> None:
    text, message = NO_DUMP[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_dump(tmp_path / name, tmp_path / "dump", WIKIDATA, USED)
    assert not (tmp_path / "dump").exists()


def test_a_dump_that_was_read_is_not_read_again(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.nt").write_text("".join(random_lines(1)))
    load_dump(tmp_path / "a.nt", tmp_path / "whole", WIKIDATA, USED)
    sorted_ = []

    def stop(part: Path):
        if len(sorted_) == 1:
            raise KeyboardInterrupt
        sorted_.append(part)
        return whole_file(part)

    whole_file = partitions.whole_file
    monkeypatch.setattr(partitions, "whole_file", stop)
    with pytest.raises(KeyboardInterrupt):
        load_dump(tmp_path / "a.nt", tmp_path / "dump", WIKIDATA, USED)
    assert not (tmp_path / "dump").exists()
    monkeypatch.setattr(partitions, "whole_file", whole_file)
    monkeypatch.setattr(partitions, "read_blocks", lambda path: pytest.fail("read again"))
    load_dump(tmp_path / "a.nt", tmp_path / "dump", WIKIDATA, USED)
    assert facts_of(tmp_path / "dump") == facts_of(tmp_path / "whole")
    for name in ("labels", "redirects", "terms"):
        tables = [pq.read_table(tmp_path / folder / f"{name}.parquet") for folder in ("dump", "whole")]
        assert tables[0] == tables[1]


@pytest.mark.parametrize("change", ["file", "relations"])
def test_another_dump_or_other_relations_are_read_anew(tmp_path, monkeypatch, change: str) -> None:
    (tmp_path / "a.nt").write_text("".join(statements(10)))
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "_sort", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_dump(tmp_path / "a.nt", tmp_path / "dump", WIKIDATA, USED)
    if change == "file":
        (tmp_path / "a.nt").write_text("".join(statements(20)))
    relation_ids = USED if change == "file" else ["P22"]
    load_dump(tmp_path / "a.nt", tmp_path / "dump", WIKIDATA, relation_ids)
    assert len(facts_of(tmp_path / "dump")) == (20 if change == "file" else 10)
    assert json.loads((tmp_path / "dump/dump.json").read_text())["relations"] == sorted(relation_ids)


def test_a_folder_is_asked_only_for_what_it_holds(tmp_path) -> None:
    (tmp_path / "a.nt").write_text("".join(statements(10)))
    load_dump(tmp_path / "a.nt", tmp_path / "dump", WIKIDATA, ["P22"])
    with pytest.raises(ValueError, match="namespace 'wikidata', not 'world'; delete it"):
        DumpSource(tmp_path / "dump", WORLD)
    with pytest.raises(ValueError, match="was not made from a dump .*; delete it and run again"):
        DumpSource(tmp_path, WIKIDATA)
    unlisted = "relation P2 was not listed when .*dump was made"
    with DumpSource(tmp_path / "dump", WIKIDATA) as source, pytest.raises(ValueError, match=unlisted):
        source.count_facts("P2")


QUESTIONS = {
    "count_facts": (["P22"], 10),
    "facts": (["P22"], Found([(f"Q{number}", "Q1") for number in range(10)])),
    "subjects": (["P22", 0, None], {f"Q{number}" for number in range(10)}),
    "facts_about": ([["Q7"], ["P22"]], Found([("Q7", "P22", "Q1")])),
    "count_instances": ([LogicRule.parse("P22&P22>P22")], 10),
    "instances": ([LogicRule.parse("P22>P22"), 1, lambda ids: True], Found([("Q1", "Q1")])),
    "object_counts": (["P22", 2], {}),
    "objects": (["P22", {"Q7": 1}], Found([("Q7", "Q1")])),
    "names": ([["Q7"]], {"Q7": (None, None, None)}),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_can_be_the_first_and_repeated(tmp_path, question: str) -> None:
    (tmp_path / "a.nt").write_text("".join(statements(10)))
    load_dump(tmp_path / "a.nt", tmp_path / "dump", WIKIDATA, ["P22"])
    arguments, answer = QUESTIONS[question]
    with DumpSource(tmp_path / "dump", WIKIDATA) as source:
        assert getattr(source, question)(*arguments) == answer
        assert getattr(source, question)(*arguments) == answer
    assert {path.name for path in tmp_path.iterdir()} == {"a.nt", "dump"}
