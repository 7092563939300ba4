"""The workflow as its users start it."""

import json
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

import started

ROOT = Path(__file__).parents[1]


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return started.snakemake(folder, "--snakefile", str(ROOT / "Snakefile"), "--cores", "2", *arguments)


def planned(folder: Path, *arguments: str) -> Counter:
    """Return the number of jobs of each rule."""
    run = snakemake(folder, "--dry-run", "--quiet", "rules", *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    table = re.search(r"-----\n(.*?)\ntotal", run.stdout + run.stderr, re.DOTALL)
    return Counter({rule: int(n) for rule, n in map(str.split, table[1].splitlines())} if table else {})


@cache
def planned_demo() -> Counter:
    """Return the number of jobs of each rule for the demo, from nothing."""
    with TemporaryDirectory() as folder:
        return planned(Path(folder))


def test_the_demo_is_planned_without_a_model_or_a_graph():
    jobs = planned_demo()
    editors = yaml.safe_load((ROOT / "config.yaml").read_text())["editors"]
    plain = [name for name, editor in editors.items() if "second_edit" not in editor]
    assert jobs["score"] == 3 * len(plain) + 2 * len(editors)
    assert jobs["train_lm"] == jobs["report"] == 1
    searched = yaml.safe_load((ROOT / "resources/models/demo-4x128.yaml").read_text())["search"]
    assert jobs["tune"] == len({editors[name]["method"] for name in plain} & set(searched))
    assert jobs["train_mend"] == 1


@pytest.mark.thorough  # planned jobs are held against such a run
def test_a_run_of_reduced_precision_is_compared_with_a_strict_one(tmp_path):
    strict = planned_demo()
    reduced = planned(tmp_path, "--config", "engine=" + json.dumps({"precision": "bf16"}))
    assert "compare_precision" not in strict
    assert reduced["compare_precision"] == len(yaml.safe_load((ROOT / "config.yaml").read_text())["editors"])
    assert reduced["edit_strict"] == reduced["edit"] == strict["edit"]  # few cases: all are compared


def test_an_incomplete_run_is_reported_without_making_what_is_missing(tmp_path):
    whole = planned_demo()
    (tmp_path / "study.yaml").write_text("report: {incomplete: true}")
    found = planned(tmp_path, "--configfile", "study.yaml")
    assert "edit" not in found
    assert found["score"] == whole["score"]
    assert found["report"] == 1
    quotas = yaml.safe_load((ROOT / "config.yaml").read_text())["cases"]["quotas"]
    shard = f"00000-{quotas['test']['coverage'] - 1:05d}.parquet"
    folder = tmp_path / "results/world/demo-4x128/coverage/rome/s0"
    for kind in ("observations", "telemetry", "health"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / shard).touch()
    assert planned(tmp_path, "--configfile", "study.yaml")["edit"] == 1


def test_all_errors_of_a_configuration_come_at_once(tmp_path):
    study = {"kg": "wrold", "models": ["demo-4x12"], "datasets": ["covrage"]}
    study |= {"cases": {"sed": 1}, "editors": {"rome": {"method": "rom"}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    run = snakemake(tmp_path, "--dry-run", "--configfile", "study.yaml")
    assert run.returncode == 1
    said = run.stdout + run.stderr
    for hint in ("'world'", "'demo-4x128'", "'seed'", "'rome'", "'coverage'"):
        assert re.search(f"did you mean {hint}", said), said
    assert "Traceback" not in said


@pytest.mark.thorough
def test_each_split_with_cases_is_exported(tmp_path):
    assert planned_demo()["export_cases"] == 2
    (tmp_path / "study.yaml").write_text("cases: {quotas: {dev: {coverage: 0}}}")
    changed = planned(tmp_path, "--configfile", "study.yaml", "--", "datasets")
    assert changed["export_cases"] == 1


def test_published_files_replace_mining_and_building(tmp_path):
    names = ["coverage_edit", "reverse_edit", "composite_edit", "easy", "hard"]
    folder = tmp_path / "published"
    folder.mkdir()
    for name in (*names, "conflict_prompts", "round_prompts"):
        (folder / f"{name}.json").write_text("[]")
    study = {"kg": "released", "study": "released", "report": {"bars": []}, "editors": {"mend": None}}
    study["kgs"] = {"released": {"source": "released", "namespace": "wikidata", "folder": str(folder)}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    jobs = planned(tmp_path, "--configfile", "study.yaml")
    assert jobs["read_released"] == 1
    assert jobs["build_released_cases"] == 5
    assert "build_cases" not in jobs


@pytest.mark.slow
def test_the_whole_demo_runs_once_and_repeats_only_what_changed(tmp_path):
    run = snakemake(tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "results/report/index.html").stat().st_size > 100_000
    assert planned(tmp_path) == Counter()
    made = snakemake(tmp_path, "--report", "report.html")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "against what an edit damages" in (tmp_path / "report.html").read_text(encoding="utf-8")
    changed = planned(tmp_path, "--config", "editors=" + json.dumps({"ft": {"settings": {"steps": 20}}}))
    assert set(changed) == {"tune", "edit", "score", "tables", "figures", "report", "all"}
    assert changed["edit"] == 5  # one for each dataset
