"""The manifest of a folder of results, and what no longer agrees with it."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from aftershock.provenance import manifest
from aftershock.provenance.manifest import read_manifest, write_manifest
from aftershock.provenance.verify import check_files, choose
from aftershock.tables.runs import OBSERVATIONS, TELEMETRY

CONFIG = {
    "study": None,
    "kgs": {"world": {}},
    "models": ["tiny"],
    "editors": {"rome": {"method": "rome"}, "ft": {"method": "ft"}, "mend": None},
}
ROME = "world/tiny/coverage/rome/s0"
FIRST = f"{ROME}/observations/00000-00003.parquet"


def provenance(editor: str, shard: str) -> dict:
    wildcards = {"kg": "world", "model": "tiny", "dataset": "coverage", "editor": editor, "seed": "0"}
    return {"rule": "edit", "wildcards": {**wildcards, "shard": shard}, "seed": 0, "device": "cpu"}


def write_shard(results: Path, editor: str, start: int, logprob: float = -1.0) -> None:
    shard, cases = f"{start:05d}-{start + 3:05d}", range(start, start + 4)
    rows = pd.DataFrame({"case_id": cases, "state": "1", "probe_id": 0, "prompt_id": 0, "logprob": logprob})
    rows = rows.assign(n_tokens=1, token_logprobs=[[logprob]] * 4, argmax_match=True, tokens_matched=1)
    folder = results / f"world/tiny/coverage/{editor}/s0"
    made_by = provenance(editor, shard)
    OBSERVATIONS.write(rows.assign(continuation="Rome"), folder / f"observations/{shard}.parquet", made_by)
    rows = pd.DataFrame(
        {"case_id": cases, "state": "1", "steps": 1, "loss": 0.1, "delta_norm": 1.0, "reason": None}
    )
    TELEMETRY.write(rows, folder / f"telemetry/{shard}.parquet", made_by)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    results = tmp_path / "results"
    for editor in ("rome", "ft", "mend"):
        for start in (0, 4):
            write_shard(results, editor, start)
    weights = results / "models/tiny/weights"
    weights.mkdir(parents=True)
    save_file({"w": np.eye(2)}, weights / "model.safetensors", {"weights_sha256": "abc"})
    (weights / "provenance.json").write_text('{"hub": "owner/tiny", "commit": "c0ffee"}')
    for name in ("logs/edit/a.log", "jobs/edit/a.json", "kg/world/cache/a", ".lock", "world/.a.part"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text("{}")
    record = {
        "state": "done",
        "outputs": ["results/models/tiny/weights"],
        "provenance": {"rule": "fetch_model"},
    }
    (results / "jobs/edit/b.json").write_text(json.dumps(record))
    (results / "jobs/edit/a.json").write_text('{"state": "running"}')
    return results


def test_every_file_that_a_stage_made_is_named_with_what_made_it(results: Path) -> None:
    written = json.loads(write_manifest(CONFIG, results).read_text())
    assert len(written["files"]) == 14
    assert not any("logs" in name or "cache" in name or "/." in name for name in written["files"])
    entry = written["files"][FIRST]
    assert entry["bytes"] == (results / FIRST).stat().st_size
    assert len(entry["sha256"]) == len(entry["content"]) == 64
    assert (entry["rows"], entry["by"]["rule"], entry["by"]["device"]) == (4, "edit", "cpu")
    weights = written["files"]["models/tiny/weights/model.safetensors"]
    assert weights["bytes"] == (results / "models/tiny/weights/model.safetensors").stat().st_size
    assert weights["by"] == {"rule": "fetch_model"}
    assert written["study"] == "default"
    assert written["software"]["pyarrow"]
    assert written["machine"]["processor"]
    assert written["config"] == CONFIG
    assert read_manifest(results) == written


def test_a_manifest_does_not_depend_on_times_or_on_the_place(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "elsewhere/results")  # with the times of now
    there, here = (write_manifest(CONFIG, each) for each in (tmp_path / "elsewhere/results", results))
    assert there.read_text() == here.read_text()


def test_equal_rows_have_equal_hashes_whatever_made_them(results: Path) -> None:
    files = read_manifest_of(results)["files"]
    rome, ft = (files[FIRST.replace("rome", editor)] for editor in ("rome", "ft"))
    assert rome["content"] == ft["content"]
    assert rome["sha256"] != ft["sha256"]
    write_shard(results, "ft", 0, logprob=-1.5)
    assert read_manifest_of(results)["files"][FIRST.replace("rome", "ft")]["content"] != rome["content"]


def read_manifest_of(results: Path) -> dict:
    write_manifest(CONFIG, results)
    return read_manifest(results)


def test_unchanged_files_are_not_read_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_manifest(CONFIG, results).read_text()
    read = []
    real = manifest.describe
    monkeypatch.setattr(manifest, "describe", lambda path: read.append(path.name) or real(path))
    assert write_manifest(CONFIG, results).read_text() == first
    assert read == []
    write_shard(results, "rome", 0, logprob=-2.0)
    assert write_manifest(CONFIG, results).read_text() != first
    assert read == ["00000-00003.parquet"] * 2
    (results / ".manifest.json").write_text("{")
    write_manifest(CONFIG, results)
    assert len(read) == 2 + 14


def test_a_damaged_file_stops_the_manifest_and_is_named(results: Path) -> None:
    before = write_manifest(CONFIG, results).read_text()
    (results / FIRST).write_bytes((results / FIRST).read_bytes()[:-20])
    with pytest.raises(ValueError, match=f"{FIRST} cannot be read"):
        write_manifest(CONFIG, results)
    assert (results / "manifest.json").read_text() == before


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"Rome")] ^= 16
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a disk does it: no time changes


DAMAGED = "damaged: it cannot be read"
FAULTS = {
    "missing": (Path.unlink, "missing"),
    "bit": (flip, DAMAGED),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), DAMAGED),
    "empty": (lambda path: path.write_bytes(b""), DAMAGED),
    "other shard": (
        lambda path: shutil.copy(path.with_name("00004-00007.parquet"), path),
        f"{DAMAGED}: it holds what was made for shard 00004-00007",
    ),
    "other editor": (
        lambda path: shutil.copy(str(path).replace("rome", "ft"), path),
        f"{DAMAGED}: it holds what was made for editor ft",
    ),
    "column": (
        lambda path: pd.read_parquet(path).drop(columns="logprob").to_parquet(path),
        r"changed: \d+ bytes, \d+ in the manifest$",
    ),
    "column alone": (
        lambda path: pq.write_table(pq.read_table(path).drop_columns("logprob"), path),
        f"{DAMAGED}: its columns are not those that were written",
    ),
    "rewritten": (
        lambda path: OBSERVATIONS.write(OBSERVATIONS.read(path), path, {"rule": "edit"}),
        "changed: .*, though it holds the same rows",
    ),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_each_fault_of_a_shard_is_found(results: Path, fault: Callable, said: str) -> None:
    known = read_manifest_of(results)
    assert list(check_files(known, results)) == []
    fault(results / FIRST)
    [(name, what)] = check_files(known, results)
    assert name == FIRST
    assert re.search(said, what), what


def test_other_files_are_checked_too(results: Path) -> None:
    known = read_manifest_of(results)
    (results / "models/tiny/weights/model.safetensors").write_bytes(b"\xff" * 20)
    (results / "models/tiny/weights/provenance.json").write_text("{}")
    (results / "models/tiny/extra.txt").write_text("")
    found = dict(check_files(known, results))
    assert found.pop("models/tiny/weights/model.safetensors").startswith("changed: 20 bytes, ")
    assert found.pop("models/tiny/weights/provenance.json") == "changed: 2 bytes, 41 in the manifest"
    assert found == {"models/tiny/extra.txt": "extra: the manifest does not know it"}


def test_without_a_manifest_or_with_half_of_one_the_remedy_is_named(results: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no .*manifest\.json; finish the run, or .*aftershock manifest"
    ):
        read_manifest(results)
    path = write_manifest(CONFIG, results)
    path.write_text(path.read_text()[:-50])
    with pytest.raises(ValueError, match=r"manifest\.json cannot be read: .*aftershock manifest"):
        read_manifest(results)


def test_a_sample_is_of_shards_that_the_configuration_still_has(results: Path) -> None:
    known = read_manifest_of(results)

    def sample(n: int, seed: int, unsound: tuple = ()) -> list[str]:
        return choose(known, n, seed, unsound)

    everything = sample(99, 0)
    assert len(everything) == 4
    assert not any("mend" in name or "telemetry" in name for name in everything)
    picks = {tuple(sample(2, seed)) for seed in range(20)}
    assert len(picks) > 1
    assert all(len(pick) == 2 for pick in picks)
    assert sample(2, 7) == sample(2, 7)
    assert FIRST not in sample(99, 0, (FIRST,))
    assert sample(0, 0) == []


def test_of_several_studies_in_one_folder_the_last_one_is_sampled(results: Path) -> None:
    other = {"study": None, "kgs": {"wikidata": {}}, "models": ["other"], "editors": {"rome": {}}}
    write_manifest(CONFIG, results)
    write_manifest(other, results)
    known = read_manifest(results)
    assert (known["config"], choose(known, 2, 0)) == (other, [])
    assert len(choose({**known, "config": CONFIG}, 2, 0)) == 2


def test_the_commit_is_missing_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    git = folder / "git"
    git.write_text("#!/bin/sh\necho 'fatal: detected dubious ownership in repository' >&2\nexit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert manifest._commit() == "unknown: fatal: detected dubious ownership in repository"
    git.unlink()
    monkeypatch.setenv("PATH", str(folder))
    assert manifest._commit() == "unknown: [Errno 2] No such file or directory: 'git'"
