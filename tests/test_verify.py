"""Shards are made again bit for bit, in another process and whatever the order of sets, and compared."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess as Ended

import pytest
import torch

import started
from aftershock.datasets.table import CONFLICT_STATES
from aftershock.experiments.cases import Continuations, run_cases
from aftershock.provenance import verify as verification
from aftershock.provenance.equality import compare_tables
from aftershock.tables import provenance_of
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import OBSERVATIONS, TELEMETRY
from editing import make
from test_protocol import TEMPLATE_ROWS, tables
from tiers import repeated
from tiny import tiny
from worlds import hash_tables

ROOT = Path(__file__).parents[1]
STUDY = """
datasets: [coverage]
editors:
  step: {method: plugins/gradient_step.py, settings: {layers: [0]}}
  ft: null
  rome: null
  memit: null
  mend: null
  memit_mle: null
tuning: {trials: 1}
continuations: {tokens: 2}
report: {bars: []}
"""
RUN = "results/world/demo-4x128/coverage"
SHARD = f"{RUN}/step/s0/observations/00000-00007.parquet"


OTHERWISE = f"""
import sys
from pathlib import Path
from aftershock.provenance import verify

def make_again(names, config, arguments):
    path = verify.SCRATCH / "{SHARD}"
    path.parent.mkdir(parents=True)
    path.write_bytes(Path("sound.parquet").read_bytes())
    return 1.0

verify.make_again = make_again
sys.exit(not verify.verify(3, 0, sys.argv[1:]))
"""


def test_a_remake_links_to_results_in_folders_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verification.subprocess, "run", lambda command, **_: Ended(command, 0))
    shard = SHARD.removeprefix("results/")
    for name in ("kg/world/facts.parquet", "logs/a.log", ".verify/b", "models/m/weights/config.json", shard):
        path = Path("results", name)
        path.parent.mkdir(parents=True)
        path.write_text(name)
        path.parent.chmod(0o755 if "verify" in name else 0o555)
    Path("results/gone").symlink_to("nowhere")
    made = verification.SCRATCH / "results"
    verification.make_again([shard], {}, [])
    assert {p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_symlink()} == {
        "kg/world/facts.parquet",
        "models/m/weights/config.json",
    }
    for name in ("kg/world", "models/m/weights"):
        assert (made / name).stat().st_mode & 0o200
        Path("results", name).chmod(0o755)  # for whoever cleans up
    Path(SHARD).parent.chmod(0o755)


def python(folder: Path, *arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: a random model, cases of no meaning, and a shard of edits."""
    folder = tmp_path_factory.mktemp("run")
    results = folder / "results"
    lm = tiny()
    for part in (lm.model.float(), lm.tokenizer):
        part.save_pretrained(results / "models/demo-4x128/weights")
    edits, probes = tables(8)
    cases = {"split": "test", "rule": "R1>R1", "strict": True, "functionality": 1.0, "cluster": 0}
    rest = {"tied_known": None, "implied": None, "n_objects": 0, "n_known": 0}
    frame = edits[["case_id"]].drop_duplicates().assign(**cases, **rest)
    made = results / "world/demo-4x128/cases"
    CASES.write(frame, made / "coverage.parquet")
    EDITS.write(edits, made / "coverage.edits.parquet")
    PROBES.write(probes, made / "coverage.probes.parquet")
    PROMPTS.write(TEMPLATE_ROWS, results / "kg/world/prompts.parquet")
    (folder / "study.yaml").write_text(STUDY)
    shutil.copytree(ROOT / "tests" / "methods", folder / "plugins")  # named by a path from here
    options = ("--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "--configfile", "study.yaml")
    run = started.snakemake(folder, *options, "--allowed-rules", "edit", "--", SHARD)
    assert run.returncode == 0, run.stderr
    return folder


def aftershock(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return started.module("aftershock", folder, *arguments, PYTHONPATH=str(ROOT / "workflow"))


def verify(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return aftershock(folder, "verify", *arguments, "--cores", "1")


def test_a_run_leaves_a_manifest_and_its_shards_are_made_again_bit_for_bit(folder: Path) -> None:
    assert provenance_of(folder / SHARD)["processor"]
    assert (folder / "results/manifest.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*") if path.is_file()}
    found = python(folder, "-m", "aftershock", "verify", "--cores", "1", hash_seed=1)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "none not as in the manifest" in found.stdout
    assert "3 identical" in found.stdout  # observations, telemetry and health of the shard
    after = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*") if path.is_file()}
    after.pop(folder / "results/.lock")
    assert after == before


def test_a_shard_that_would_come_out_otherwise_is_named(folder: Path) -> None:
    path = folder / SHARD
    rows, made_by = OBSERVATIONS.read(path), provenance_of(path)
    sound = path.read_bytes()
    (folder / "sound.parquet").write_bytes(sound)  # which is what a run would make, by the test before
    rows.loc[3, "logprob"] -= 0.5
    OBSERVATIONS.write(rows, path, made_by)
    read_only = verify(folder, "--sample", "0")
    assert read_only.returncode == 1
    assert f"{SHARD}: changed" in read_only.stdout
    assert aftershock(folder, "manifest").returncode == 0
    found = python(folder, "-c", OTHERWISE)
    path.write_bytes(sound)
    assert found.returncode == 1
    assert f"different: {SHARD.removeprefix('results/')} (logprob by up to 0.5)" in found.stdout
    assert "results/.verify" in found.stdout


def test_verify_says_what_it_needs(tmp_path: Path) -> None:
    found = verify(tmp_path)
    assert found.returncode == 2
    assert "there is no results/manifest.json" in found.stderr


@pytest.mark.parametrize("method", [repeated("ft"), "memit"])
def test_the_number_of_threads_changes_nothing_beyond_the_tolerance(method: str) -> None:
    found = []
    threads = torch.get_num_threads()
    for number in (1, 2):
        torch.set_num_threads(number)
        lm = tiny()
        edits, probes = tables(1)
        arguments = (edits, probes, TEMPLATE_ROWS, CONFLICT_STATES, "plain", 0, "all", Continuations(2))
        found.append(run_cases(lm, make(method, lm), *arguments))
    torch.set_num_threads(threads)
    for table, one, two in zip((OBSERVATIONS, TELEMETRY), *found, strict=True):
        rows = [table.check(frame) for frame in (one, two)]
        assert compare_tables(*rows, table.key, table.name).verdict in ("identical", "equal")


BUILT = """
import sys
from pathlib import Path
from worlds import hash_tables
print(*hash_tables(Path(sys.argv[1])), sep="\\n")
"""


@pytest.mark.thorough
def test_cases_do_not_depend_on_the_order_of_sets(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    other = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"  # than that of this process
    built = subprocess.run(
        [sys.executable, "-c", BUILT, str(there)],
        env={"PYTHONPATH": f"{ROOT / 'workflow'}:{ROOT / 'tests'}", "PYTHONHASHSEED": other},
        capture_output=True,
        text=True,
        check=True,
    )
    found = hash_tables(here)
    assert len(found) == 15
    assert built.stdout.splitlines() == found
