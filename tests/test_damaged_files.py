"""Files that are cut short, nested without end or of wrong types: one error each, which names the file."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from aftershock.config import check_config
from aftershock.config.paths import path_errors
from aftershock.datasets.edit_files.reading import guess_format, read_edits
from aftershock.editors.mend.checkpoint import load_checkpoint
from aftershock.experiments.sequences.chunks import Chunk
from aftershock.kg.screen import read_screen
from aftershock.lm.edits.saved import load_deltas
from aftershock.lm.files.folders import fault_of_model, tensor_names
from aftershock.lm.files.sizes import sizes_of_config, sizes_of_source
from aftershock.lm.networks import hypernetwork, scope_models
from aftershock.lm.statistics import null_space
from aftershock.lm.statistics.moments import load_moments, load_sums, read_hashes
from aftershock.lm.texts.documents import sample_documents
from aftershock.tasks.sources import read_rows
from aftershock.text_files import read_cells
from small_project import CONFIG, errors

DEEP = "[" * 100_000
NOBODY: Any = None  # a model that no reader gets as far as


def documents(path: Path) -> list[str]:
    return sample_documents([path], "text", 50, 0)


def rows(path: Path) -> list[dict[str, Any]]:
    return read_rows([str(path)])


def edits(path: Path) -> list[Any]:
    return read_edits(path, {"source": "flat", "broken": "refuse"})


PACKED = gzip.compress(b"some words\n" * 5000, mtime=0)
DAMAGED: list[tuple[Callable[[Path], Any], str, bytes]] = [
    *((documents, "a.txt.gz", PACKED[:size]) for size in (1, 5, len(PACKED) // 2, len(PACKED) - 3)),
    (documents, "a.txt.gz", b"not packed at all"),
    (documents, "a.jsonl", f"{DEEP}\n".encode()),
    (rows, "a.jsonl", DEEP.encode()),
    (rows, "a.json", DEEP.encode()),
    (edits, "a.json", b'{"prompt": "x"}\n' + DEEP.encode()),
    (guess_format, "a.json", DEEP.encode()),
]
TENSORS: dict[str, Callable[[Path], Any]] = {
    "moments": lambda path: load_moments(path, None, ""),
    "sums": lambda path: load_sums(path, {}),
    "hashes": read_hashes,
    "null space": lambda path: null_space.load_artifact(path, NOBODY, None, ""),
    "hypernetwork": lambda path: hypernetwork.load_hypernetwork(path, NOBODY, ""),
    "checkpoint": lambda path: load_checkpoint(path, NOBODY, NOBODY, ""),
    "scope models": lambda path: scope_models.load_artifact(path, NOBODY, None, ""),
    "deltas": load_deltas,
    "chunk": lambda path: Chunk(path).notes,
}


@pytest.mark.parametrize(("read", "name", "content"), DAMAGED)
def test_what_is_cut_short_or_nested_without_end_is_named(tmp_path, read, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("read", [documents, rows])
def test_a_parquet_file_is_whole_or_named(tmp_path, read) -> None:
    path, chance = tmp_path / "a.parquet", random.Random(0)
    texts = {"text": [f"some words {i}" for i in range(2000)]}
    pd.DataFrame(texts).to_parquet(path, row_group_size=500)
    whole, faults = path.read_bytes(), []
    for size in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a\.parquet"):
            read(path)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= chance.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            read(path)
        except ValueError as error:
            faults.append(str(error))
    assert len(faults) > 10
    assert all("a.parquet" in fault for fault in faults)


@pytest.mark.parametrize("kind", TENSORS)
def test_a_file_of_tensors_is_whole_or_named(tmp_path, kind: str) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"moment.0": torch.eye(8)}, path, {"format": kind})
    whole = path.read_bytes()
    for size in (0, 7, 40, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a\.safetensors is damaged or cut short .*; delete it and run"):
            TENSORS[kind](path)


def test_a_cell_may_be_long(tmp_path) -> None:
    long = "x" * 200_000
    (tmp_path / "a.csv").write_text(f'a,b\n"{long}",2\n')
    assert rows(tmp_path / "a.csv") == [{"file": "a", "folder": tmp_path.name, "a": long, "b": "2"}]
    assert read_cells(f"a\t{long}\n".encode(), "rules.tsv") == [["a", long]]


ODD = [None, True, "x", -1, 0, 1.5, [], [1], {}, {"x": None}]


def test_a_model_folder_with_values_of_other_types_has_no_sizes(tmp_path) -> None:
    sound = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    sound |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 100}
    file = tmp_path / "config.json"
    for key in (*sound, "tie_word_embeddings", "text_config"):
        for value in ODD:
            found = sizes_of_config({**sound, key: value})
            assert all(isinstance(n, int) for n in found.get("shape", {}).values())
    for whole in (*ODD[:-2], json.loads("[" * 50 + "]" * 50)):
        file.write_text(json.dumps(whole))
        assert sizes_of_source({"path": str(tmp_path)}, tmp_path) == (None, {})
        assert "its config.json cannot be read" in (fault_of_model(tmp_path) or "")
    file.write_text(DEEP)
    assert "its config.json cannot be read" in (fault_of_model(tmp_path) or "")
    file.write_text(json.dumps(sound))
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    for odd in ([], "x", {"a": 1}, {"a": None}):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": odd}))
        assert (
            fault_of_model(tmp_path) == "is no whole model: its model.safetensors.index.json cannot be read"
        )
        assert tensor_names(tmp_path) == []
    (tmp_path / "model.safetensors.index.json").unlink()
    for entry in ('["x", "y"]', "[null, null]", "[0]", "{}"):
        header = f'{{"a": {{"dtype": "F32", "data_offsets": {entry}}}}}'.encode()
        (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
        assert fault_of_model(tmp_path) == "is not whole: model.safetensors is damaged or cut short"


# --- folders in place of files ----------------------------------------------------------------------------
def test_a_folder_is_no_file(tmp_path, project, monkeypatch) -> None:
    (tmp_path / "a.jsonl").mkdir()
    for read in (rows, edits):
        with pytest.raises(ValueError, match=r"a\.jsonl is no file that can be read: Is a directory"):
            read(tmp_path / "a.jsonl")
    assert list(path_errors("key", "a.jsonl", tmp_path)) == ["key: 'a.jsonl' is no file; name one"]
    assert list(path_errors("key", "a.jsonl", tmp_path, "folder")) == []
    monkeypatch.chdir(project)
    (project / "facts.nt").mkdir()
    kgs = {"toy": {"source": "ntriples", "namespace": "world", "file": "facts.nt"}}
    assert "kgs.toy.file: 'facts.nt' is no file; name one" in errors(project, kgs=kgs)


def test_a_graph_that_lacks_a_key_is_not_unknown(project) -> None:
    found = errors(project, kgs={"toy": {"source": "ntriples", "namespace": "world"}})
    assert "kgs.toy.file: missing" in found
    assert not [line for line in found if line.startswith("kg: 'toy' is unknown")]


@pytest.mark.parametrize("name", ["relations", "rules", "paraphrases", "screen"])
def test_a_sheet_that_is_no_file_is_named_beside_other_errors(project, name: str) -> None:
    file = project / "resources" / f"{name}.tsv"
    file.unlink()
    for found in ("No such file or directory", "Is a directory"):
        lines = errors(project, tuning={"trials": 0})
        assert f"{name}.tsv in {file.parent} is no file that can be read: {found}" in lines
        assert [line for line in lines if line.startswith("tuning.trials")]
        file.mkdir(exist_ok=True)


def test_a_text_is_not_kept_and_dropped(project) -> None:
    sheet = project / "resources" / "screen.tsv"
    sheet.write_text(sheet.read_text() + "Cockburn\tkeep\tagain\n")
    check_config(yaml.safe_load(CONFIG), project)
    sheet.write_text(sheet.read_text() + "COCKBURN\tdrop\tan afterthought\n")
    said = "screen.tsv: 'COCKBURN' is to be kept and to be dropped; leave one row"
    assert errors(project) == [said]
    with pytest.raises(ValueError, match=said):
        read_screen(None, sheet)
