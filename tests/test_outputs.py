"""Outputs appear whole or not at all, with the declared columns; tables are read as they were written."""

import json
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from aftershock.output import whole_file, whole_folder, write_text
from aftershock.tables import Table, provenance_of, sha256_of_column
from aftershock.tables.runs import OBSERVATIONS, TELEMETRY
from tiers import repeated


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with whole_file(tmp_path / "deep" / "a.txt") as part:
        part.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_nothing_appears_after_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail() -> None:
        with whole_file(tmp_path / "a.txt") as part, whole_folder(tmp_path / "b") as folder:
            part.write_text("half")
            (folder / "c").write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_replaces_the_one_before(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with whole_folder(tmp_path / "b") as folder:
            (folder / name).write_text(name)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["new"]


def test_files_are_for_those_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a.safetensors") as part, whole_folder(tmp_path / "b") as folder:
            for path in (part, folder / "c.safetensors"):
                save_file({"x": torch.zeros(3)}, path)
        plain = tmp_path / "plain"
        plain.touch()
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode == plain.stat().st_mode == 0o100640
    assert (tmp_path / "b" / "c.safetensors").stat().st_mode == 0o100640


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, python: Callable[..., Popen]) -> None:
    write_text(tmp_path / "a.txt", "old")

    def no_more_than_a_page() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    code = """
        import pandas as pd
        from aftershock.output import write_text
        from aftershock.tables.cases import CASES
        def attempt(write, *arguments):
            try:
                write(*arguments)
            except OSError as error:
                print(type(error).__name__)
        attempt(write_text, "a.txt", "n" * 10_000)
        frame = pd.DataFrame({c: range(9999) for c in CASES.columns})
        frame["split"] = frame["rule"] = frame["implied"] = frame["case_id"].astype(str).map(hash).astype(str)
        attempt(CASES.write, frame.assign(strict=True, functionality=0.5), "cases.parquet")
    """
    out, err = python(code, cwd=tmp_path, preexec_fn=no_more_than_a_page).communicate(timeout=60)
    assert out.split() == ["OSError", "OSError"], err
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


SAID = {"tokens_matched": 2, "continuation": " Oslo"}


def observations(**changes: Any) -> pd.DataFrame:
    row = {"case_id": 0, "state": "1", "probe_id": 2, "prompt_id": 0, "logprob": -1.5, "n_tokens": 2}
    return pd.DataFrame([{**row, "token_logprobs": [-1.0, -0.5], "argmax_match": True, **SAID, **changes}])


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    frame = pd.concat([observations(), observations(case_id=1, state="0")], ignore_index=True)
    for number in (0, 1):
        OBSERVATIONS.write(frame[number : number + 1], tmp_path / f"{number}.parquet", {"seed": 3})
    again = OBSERVATIONS.read(tmp_path / "0.parquet", tmp_path / "1.parquet")
    again["token_logprobs"] = again["token_logprobs"].map(list)
    pd.testing.assert_frame_equal(again, frame, check_dtype=False)
    assert provenance_of(tmp_path / "0.parquet") == {"table": "observations", "seed": 3}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (observations().drop(columns="logprob"), "missing columns .'logprob'."),
        (observations(surplus=1), "unknown columns .'surplus'."),
        (observations(logprob=None), "column logprob is empty in row 0"),
        (observations(logprob="x"), "logprob|double"),
        (pd.concat([observations(), observations()]), "1 repeated keys.*'case_id': 0"),
    ],
)
def test_a_wrong_table_is_refused_before_it_is_written(frame, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        OBSERVATIONS.write(frame, tmp_path / "o.parquet")
    assert not list(tmp_path.iterdir())


ALL = Table(
    "all", ("n",), {"n": "int64", "x": "float64?", "text": "string?", "yes": "bool?", "some": "list<float64>"}
)
PLACE = "results/world/tiny/coverage/rome/s0/observations/00000-00039.parquet"
WILDCARDS = {
    "kg": "world",
    "model": "tiny",
    "dataset": "coverage",
    "editor": "rome",
    "seed": "0",
    "shard": "00000-00039",
}


def observed(n: int) -> pd.DataFrame:
    random.seed(0)
    rows = []
    for i in range(n):
        tokens = np.array([-random.random() for _ in range(i % 3 + 1)])
        rows.append((i // 4, "1", i % 4, 0, tokens.sum(), len(tokens), tokens, i % 2 == 0, 0, None))
    return pd.DataFrame(rows, columns=list(OBSERVATIONS.columns))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    OBSERVATIONS.write(observed(160), tmp_path / PLACE, {"rule": "edit", "wildcards": WILDCARDS})
    return tmp_path / PLACE


def test_a_file_gives_back_every_bit(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "n": range(6),
            "x": [0.0, -0.0, np.inf, 5e-324, None, 1 / 3],
            "text": ["", "ü", None, "\x00", "a" * 99, '"'],
            "yes": [True, False, None, True, True, True],
            "some": [[], [-0.0], [0.0], [np.nan], [1e300, -1e300], [1 / 3] * 9],
        }
    ).astype({"yes": object})
    ALL.write(rows, tmp_path / "a.parquet")
    read = ALL.read(tmp_path / "a.parquet")
    assert np.array_equal(np.signbit(read["x"]), [False, True, False, False, False, False])
    assert np.signbit(read["some"][1][0])
    assert read["text"].tolist()[:4] == ["", "ü", np.nan, "\x00"] or pd.isna(read["text"][2])
    ALL.write(ALL.empty(), tmp_path / "b.parquet")
    assert len(ALL.read(tmp_path / "b.parquet")) == 0


def test_a_checksum_does_not_depend_on_chunks_and_tells_values_apart() -> None:
    for kind, values in (
        (pa.float64(), [1.0, None, 2.0, 0.0]),
        (pa.string(), ["ab", "c", None, "d"]),
        (pa.bool_(), [True, None, False, False]),
        (pa.list_(pa.float64()), [[1.0, 2.0], [], [3.0], [4.0]]),
    ):
        whole = pa.chunked_array([pa.array(values, kind)])
        pieces = pa.chunked_array([pa.array(["x", *values][1:2], kind), whole.chunk(0).slice(1, 3)])
        assert sha256_of_column(whole) == sha256_of_column(pieces)
        assert sha256_of_column(whole) != sha256_of_column(whole.take([0, 2, 1, 3]))
    strings = [
        pa.chunked_array([pa.array(v)]) for v in (["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None])
    ]
    assert len({sha256_of_column(column) for column in strings}) == 4


def test_provenance_does_not_change_the_checksums(tmp_path: Path) -> None:
    for name in ("a", "b"):
        OBSERVATIONS.write(observed(9), tmp_path / f"{name}.parquet", {"device": name})
    one, two = (pq.read_schema(tmp_path / f"{name}.parquet").metadata for name in "ab")
    assert one[b"sha256"] == two[b"sha256"]
    assert set(json.loads(one[b"sha256"])) == set(OBSERVATIONS.columns)
    assert provenance_of(tmp_path / "b.parquet") == {"table": "observations", "device": "b"}


@pytest.mark.parametrize("block", [0, *map(repeated, range(1, 4))])
def test_no_flipped_bit_changes_what_is_read(shard: Path, block: int) -> None:
    before, data = OBSERVATIONS.read_arrow(shard), shard.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    random.seed(block)
    places = [*random.sample(range(footer), 75), *random.sample(range(footer, len(data)), 175)]
    refused = 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << random.randrange(8)
        shard.write_bytes(flipped)
        try:
            read = OBSERVATIONS.read_arrow(shard)
        except ValueError as error:
            refused += str(shard) in str(error)
        else:
            assert read.equals(before)
    assert refused > 75


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: bytes(len(data)),
        lambda data: b"not a table",
    ],
    ids=["emptied", "a byte short", "truncated", "zeroed", "text"],
)
def test_a_damaged_file_is_named(shard: Path, damage) -> None:
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(
        ValueError, match=f"{PLACE} cannot be read as table observations: .*; delete it and run"
    ):
        OBSERVATIONS.read(shard)
    with pytest.raises(ValueError, match=f"{PLACE} cannot be read"):
        provenance_of(shard)


def test_values_that_were_not_written_are_refused(shard: Path) -> None:
    """As a program would leave a file that keeps what it says of itself."""
    arrow = pq.read_table(shard)
    other = arrow.set_column(4, arrow.schema.field(4), pa.chunked_array([pa.array([-1.0] * len(arrow))]))
    pq.write_table(other.replace_schema_metadata(arrow.schema.metadata), shard)
    with pytest.raises(ValueError, match="values of column logprob are not those that were written"):
        OBSERVATIONS.read(shard)
    assert len(OBSERVATIONS.read(shard, columns=["case_id", "state"])) == len(arrow)
    pq.write_table(arrow.drop_columns("continuation"), shard)
    with pytest.raises(ValueError, match=f"{PLACE} "):
        OBSERVATIONS.read(shard)
    with pytest.raises(ValueError, match=f"{PLACE} is not a table telemetry"):
        TELEMETRY.read(shard)


@pytest.mark.parametrize(
    ("place", "made_for"),
    [
        (PLACE.replace("rome", "memit"), "editor rome"),
        (PLACE.replace("00000-00039", "00000-00127"), "shard 00000-00039"),
        (PLACE.replace("s0/", "s1/"), "seed 0"),
        (PLACE.replace("tiny", "tiny2"), "model tiny"),
        (PLACE.replace("coverage", "reverse"), "dataset coverage"),
    ],
)
def test_a_file_at_another_files_place_is_refused(shard: Path, tmp_path: Path, place: str, made_for: str):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(shard, tmp_path / place)
    with pytest.raises(ValueError, match=f"{place} cannot be read .*: it holds what was made for {made_for}"):
        OBSERVATIONS.read(tmp_path / place)
