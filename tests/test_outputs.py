"""Outputs appear whole or not at all, and only with the columns, types and keys declared for them."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from aftershock.output import whole_file, whole_folder, write_text
from aftershock.tables import provenance_of
from aftershock.tables.runs import OBSERVATIONS


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
def test_a_wrong_table_is_refused_before_it_is_written(
    frame: pd.DataFrame, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        OBSERVATIONS.write(frame, tmp_path / "o.parquet")
    assert not list(tmp_path.iterdir())
