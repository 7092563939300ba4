"""Samples of text files, and data sets fetched from a hub on this machine."""

import gzip
import json
import logging
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from aftershock.lm.files.fetch_text import fetch_text
from aftershock.lm.texts.documents import sample_documents, sha256_of_documents, text_files
from loopback import Hub

TEXTS = [f"document {i} says {'word ' * (i % 7)}".strip() for i in range(200)]


def written(folder: Path, kind: str, texts: list[str], name: str = "a") -> Path:
    """`texts` as one file; parquet in groups of 30 rows."""
    path = folder / f"{name}.{kind}"
    lines = [text if kind.startswith("txt") else json.dumps({"id": 1, "text": text}) for text in texts]
    if kind == "parquet":
        pd.DataFrame({"id": 1, "text": texts}).to_parquet(path, row_group_size=30)
    elif kind.endswith(".gz"):
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    else:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["txt", "txt.gz", "jsonl", "jsonl.gz", "parquet"])
def test_every_kind_of_file_gives_the_same_sample(tmp_path: Path, kind: str) -> None:
    file = written(tmp_path, kind, TEXTS)
    assert Counter(sample_documents([file], "text", 1000, 0)) == Counter(TEXTS)
    some = sample_documents([file], "text", 40, 3)
    assert some == sample_documents([written(tmp_path, "txt", TEXTS)], "text", 40, 3)
    assert len(set(some)) == 40
    assert set(some) <= set(TEXTS)
    assert some != sample_documents([file], "text", 40, 4)
    assert sorted(some, key=TEXTS.index) != some


def test_a_sample_is_of_all_files_together(tmp_path: Path) -> None:
    cuts = [TEXTS[:90], [], TEXTS[90:]]
    kinds = ["jsonl", "txt", "parquet"]
    files = [written(tmp_path, k, part, str(i)) for i, (k, part) in enumerate(zip(kinds, cuts, strict=True))]
    files[1].write_text("")
    assert text_files(tmp_path) == files
    assert text_files([str(file) for file in files]) == files
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no text; delete it and run again: rule fetch_text"):
        text_files(tmp_path / "empty")
    whole = sample_documents([written(tmp_path, "txt", TEXTS, "whole")], "text", 50, 1)
    assert sample_documents(files, "text", 50, 1) == whole
    assert sha256_of_documents(whole) != sha256_of_documents(whole[::-1])
    assert sha256_of_documents(["ab", "c"]) != sha256_of_documents(["a", "bc"])


def test_documents_drawn_are_as_likely_from_everywhere(tmp_path: Path) -> None:
    file = written(tmp_path, "txt", TEXTS)
    drawn = Counter(text for seed in range(200) for text in sample_documents([file], "text", 20, seed))
    assert sum(drawn[text] for text in TEXTS[:100]) == pytest.approx(2000, abs=150)  # 4.7 deviations
    assert max(drawn.values()) < 45


def test_only_row_groups_that_hold_some_of_the_sample_are_read(tmp_path, monkeypatch):
    read = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, i, columns: read.append((i, columns)) or whole(self, i, columns=columns),
    )
    (text,) = sample_documents([written(tmp_path, "parquet", TEXTS)], "text", 1, 0)
    assert read == [(TEXTS.index(text) // 30, ["text"])]


def test_empty_documents_and_half_characters_are_no_trouble(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": " "}\n\n{"text": "a\\ud800b"}\n{"text": ""}\n{"text": "one\\nline"}\n')
    assert sorted(sample_documents([file], "text", 9, 0)) == ["a?b", "one\nline"]
    frame = pd.DataFrame({"text": ["a", None, ""]})
    frame.to_parquet(tmp_path / "b.parquet")
    assert sample_documents([tmp_path / "b.parquet"], "text", 9, 0) == ["a"]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("missing", [None, "", " ", " \t "])
def test_a_document_without_text_is_left_out_and_counted_in_every_format(tmp_path, caplog, kind, missing):
    caplog.set_level(logging.INFO)
    texts = [missing if i in (0, 3, 7) else f"document {i}" for i in range(9)]
    given = [text or "" for text in texts] if kind == "txt" else texts
    found = sample_documents([written(tmp_path, kind, given)], "text", 99, 0)
    assert sorted(found) == [text for text in texts if text and text.strip()]
    assert "documents left out, as they have no text: 3 of 9" in caplog.text
    some = sample_documents([written(tmp_path, kind, given)], "text", 5, 0)
    assert some == sample_documents([written(tmp_path, "txt", [t or "" for t in texts])], "text", 5, 0)


def test_a_file_of_nulls_alone_has_no_document(tmp_path: Path) -> None:
    for line in ('{"text": null}', '{"text": NaN}', ""):
        (tmp_path / "a.jsonl").write_text(f"{line}\n" * 3)
        with pytest.raises(ValueError, match=r"a\.jsonl: no document has any text"):
            sample_documents([tmp_path / "a.jsonl"], "text", 9, 0)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"a,b", r"a\.csv: text is read from \.txt, \.jsonl, \.parquet"),
        ("a.jsonl", b'{"text": "a"}\n{}\n', r"a\.jsonl line 2 has no 'text'; name the text's `column`"),
        ("a.jsonl", b'{"text": 3}\n', r"a\.jsonl line 1: 'text' is int, not text"),
        ("a.jsonl", b'{"text": ["a"]}\n', r"a\.jsonl line 1: 'text' is list, not text"),
        ("a.jsonl", b'{"text": false}\n', r"a\.jsonl line 1: 'text' is bool, not text"),
        ("a.jsonl", b"null\n", r"a\.jsonl line 1 cannot be read"),
        ("a.jsonl", b'["a"]\n', r"a\.jsonl line 1 cannot be read"),
        ("a.jsonl", b"{\n", r"a\.jsonl line 1 cannot be read"),
        ("a.txt", b"\xff\xfe\n", r"a\.txt line 1 cannot be read"),
        ("a.txt", b" \n\n", r"a\.txt: no document has any text"),
        ("a.parquet", b"other", r"a\.parquet is not a parquet file"),
        ("b.txt", None, r"there is no text file .*b\.txt"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, name: str, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        sample_documents([tmp_path / name], "text", 9, 0)


def test_a_wrong_column_of_parquet_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, "parquet", TEXTS)
    with pytest.raises(ValueError, match="no column 'body'; name the text's `column`: id, text"):
        sample_documents([file], "body", 9, 0)


def test_a_data_set_is_fetched_as_its_files(hub: Hub, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / "data").mkdir(parents=True)
    written(repo / "data", "parquet", TEXTS[:50], "train-0")
    written(repo / "data", "parquet", TEXTS[50:], "train-1")
    written(repo / "data", "parquet", ["other"], "test-0")
    (repo / "README.md").write_text("about")
    hub.add("owner/text", repo, "main", "refs/convert/parquet", kind="dataset")
    hub.drops["data/train-1.parquet"] = [100]
    for revision in ("main", "refs/convert/parquet"):
        into = tmp_path / "results" / revision.replace("/", ".")
        fetch_text({"hub": "owner/text", "revision": revision, "files": ["data/train-*.parquet"]}, into)
        assert Counter(sample_documents(text_files(into), "text", 999, 0)) == Counter(TEXTS)
    assert not list(tmp_path.rglob(".*fetching"))
    assert "data/test-0.parquet" not in dict(hub.gets)
    with pytest.raises(ValueError, match=r"among its files: README\.md, data/test-0\.parquet"):
        fetch_text({"hub": "owner/text", "revision": "main", "files": ["*.jsonl"]}, tmp_path / "b")
    with pytest.raises(ValueError, match=r"only \.txt, \.jsonl, \.parquet; among those that fit: README\.md"):
        fetch_text({"hub": "owner/text", "revision": "main", "files": ["README*", "data/*"]}, tmp_path / "b")
    with pytest.raises(ValueError, match="owner/text at revision v3 cannot be fetched"):
        fetch_text({"hub": "owner/text", "revision": "v3", "files": ["*"]}, tmp_path / "b")
