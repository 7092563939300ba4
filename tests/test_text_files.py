"""Files that people write, as the programs at hand save them."""

import codecs
import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aftershock.kg.blocks import read_blocks
from aftershock.kg.screen import read_screen
from aftershock.kg.store import load_triples
from aftershock.lm.texts.documents import sample_documents
from aftershock.schema import read_sheet
from aftershock.text_files import read_cells, read_json, read_text, read_yaml, sheet_cell

TEXT = "Łódź, 中文: “Oslo”\nRîga\n"
SAVED = {
    "plain": lambda text: text.encode(),
    "utf-8 with mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16-le": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16-be": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32-le": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
}
TRIPLE = '<http://a/s> <http://a/p> "Łódź"@en .\n'


@pytest.mark.parametrize("saved", SAVED)
def test_text_is_the_same_in_every_unicode_encoding(tmp_path: Path, saved: str) -> None:
    file = tmp_path / "any"
    file.write_bytes(SAVED[saved](TEXT))
    assert read_text(file) == TEXT
    file.write_bytes(SAVED[saved]('{"é": ["中"]}'))
    assert read_json(file) == read_yaml(file) == {"é": ["中"]}


@pytest.mark.parametrize("saved", SAVED)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_documents_are_the_same_in_every_unicode_encoding(tmp_path: Path, saved: str, name: str) -> None:
    texts = ["Łódź", "中文 ਿ", "Rîga"]
    lines = [f'{{"text": "{text}"}}' for text in texts] if "jsonl" in name else texts
    content = SAVED[saved]("\r\n".join(lines) + "\r\n")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert sorted(sample_documents([tmp_path / name], "text", 9, 0)) == sorted(texts)


@pytest.mark.parametrize("ending", [".nt", ".nt.gz"])
def test_the_first_triple_after_a_mark_counts(tmp_path: Path, ending: str) -> None:
    content = codecs.BOM_UTF8 + TRIPLE.encode()
    file = tmp_path / f"facts{ending}"
    file.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    assert b"".join(read_blocks(file)) == TRIPLE.encode()
    assert load_triples(file, tmp_path / "store") == 1


def test_triples_in_another_encoding_are_named(tmp_path: Path) -> None:
    file = tmp_path / "facts.nt"
    file.write_bytes(SAVED["utf-16-le"](TRIPLE))
    for read in (lambda: list(read_blocks(file)), lambda: load_triples(file, tmp_path / "store")):
        with pytest.raises(ValueError, match=r"facts\.nt is UTF-16-LE; save it as UTF-8"):
            read()


def test_a_byte_that_is_not_utf8_is_named_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "sheet.tsv"
    file.write_bytes("one\ntwo\nEl país\n".encode("cp1252"))
    said = r"sheet\.tsv row 3: byte 0xed after 'El pa' is not UTF-8; save the file as UTF-8"
    for read in (read_text, read_json, read_yaml, lambda path: read_cells(path.read_bytes(), path)):
        with pytest.raises(ValueError, match=said):
            read(file)
    assert read_sheet(file, "screen")[1][0].startswith("sheet.tsv row 3: byte 0xed")


# --- YAML ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cases: {a: 1}\nseeds: [0]\ncases: {b: 2}\n", "cases stands twice, in lines 1 and 3"),
        ("a:\n  b:\n    - c: 1\n      c: 2\n", "a.b.0.c stands twice, in lines 3 and 4"),
        ("'a': 1\n\"a\": 2\n", "a stands twice, in lines 1 and 2"),
        ("yes: 1\ntrue: 2\n", "true stands twice"),
        ("1: a\n0x1: b\n", "0x1 stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="study.yaml: ") as caught:
        read_yaml(file)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: &one {x: 1, y: 2}\nb: {<<: *one, x: 3}\nc: *one\n",  # merged keys may be overridden
        "a: &one {<<: {x: 1}, x: 2}\nb: {<<: *one}\n",
        "- {a: 1}\n- {a: 1}\n",
        "1: a\n'1': b\n",
        "",
    ],
)
def test_other_yaml_is_read_as_ever(tmp_path: Path, text: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    assert read_yaml(file) == yaml.safe_load(text)


def test_broken_yaml_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("a: [1, 2\nb: 3\n")
    with pytest.raises(ValueError, match=r"study\.yaml is not YAML: .*line 2"):
        read_yaml(tmp_path / "study.yaml")


# --- sheets -------------------------------------------------------------------------------------------------
PLAIN = st.text(st.characters(exclude_characters="\t\r\n\0", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(PLAIN.filter(lambda text: text.strip()), min_size=1, max_size=4))
def test_cells_come_back_as_a_spreadsheet_or_this_project_writes_them(cells: list[str]) -> None:
    saved = io.StringIO(newline="")
    csv.writer(saved, dialect="excel-tab").writerow(cells)
    assert read_cells(saved.getvalue().encode(), "any") == [cells]
    assert read_cells("\t".join(map(sheet_cell, cells)).encode(), "any") == [cells]


def test_a_quote_that_encloses_no_cell_stays() -> None:
    assert read_cells(b'"Hamlet" is by\tthe 7" single\n', "any") == [['"Hamlet" is by', 'the 7" single']]


def test_a_decision_counts_after_a_spreadsheet_has_saved_it(tmp_path: Path) -> None:
    sheet = tmp_path / "screen.tsv"
    sheet.write_text('text\tdecision\treason\r\n"Cock, ""the"" Robin"\tkeep\t"a bird, no insult"\r\n')
    (tmp_path / "words.txt").write_bytes(codecs.BOM_UTF8 + b"cock\n")
    screen = read_screen(tmp_path / "words.txt", sheet)
    assert screen.fault('Cock, "the" Robin') is None
    assert screen.fault("Cock") is not None


def test_texts_that_await_a_decision_can_be_pasted_into_the_sheet(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("cock\n")
    (tmp_path / "screen.tsv").write_text("text\tdecision\treason\n")
    text = '"Cock" and "Bull"'
    rows = read_screen(tmp_path / "words.txt", tmp_path / "screen.tsv").sheet([text])
    (tmp_path / "screen.tsv").write_text(rows.replace("review", "keep"))
    assert read_screen(tmp_path / "words.txt", tmp_path / "screen.tsv").fault(text) is None


# --- parquet ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_text_columns_of_every_layout_are_text(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["Oslo", None, "Łódź", "Oslo"]
    column = pa.array(texts).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(texts, kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet", row_group_size=3)
    assert sorted(sample_documents([tmp_path / "a.parquet"], "text", 9, 0)) == ["Oslo", "Oslo", "Łódź"]


def test_a_column_of_nothing_is_text_without_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.nulls(2)}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["Oslo"]}), tmp_path / "b.parquet")
    assert sample_documents([tmp_path / "a.parquet", tmp_path / "b.parquet"], "text", 9, 0) == ["Oslo"]
    with pytest.raises(ValueError, match="no document has any text"):
        sample_documents([tmp_path / "a.parquet"], "text", 9, 0)


@pytest.mark.parametrize("column", [pa.array([1]), pa.array([["a"]]), pa.array([1]).dictionary_encode()])
def test_other_columns_are_refused(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"column 'text' holds .*, not text"):
        sample_documents([tmp_path / "a.parquet"], "text", 9, 0)
