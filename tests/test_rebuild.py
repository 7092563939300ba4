"""The study that makes facts and datasets from scratch."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from aftershock.config import check_config
from test_workflow import planned, snakemake

ROOT = Path(__file__).parents[1]
PITFALLS = ROOT / "resources" / "studies" / "pitfalls.yaml"
CONTACT = {"kgs": {"wdqs": {"contact": "somebody@example.org"}}}


def study(*more: dict[str, Any]) -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    for part in (yaml.safe_load(PITFALLS.read_text(encoding="utf-8")), *more):
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(config.get(key), dict)
            config[key] = {**config[key], **value} if both else value
    return config


def test_the_rebuild_asks_whom_to_write_to_and_for_nothing_else() -> None:
    with pytest.raises(ValueError, match=r"^1 error in .*\n  kgs.wdqs.contact: missing; a public service"):
        check_config(study(), ROOT)
    kgs = study()["kgs"]
    kgs["wdqs"]["contact"] = "somebody@example.org"
    assert set(check_config(study({"kgs": kgs}), ROOT)) == {"gpt2-xl", "gpt-j-6b"}


def test_the_rebuild_is_planned_to_its_datasets(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(CONTACT))
    files = ["--configfile", str(PITFALLS), "mine.yaml"]
    jobs = planned(tmp_path, *files, "--", "datasets")
    assert jobs["mine_combinations"] == 11
    assert jobs["mine_objects"] == 10
    assert jobs["build_cases"] == jobs["describe_dataset"] == 10
    assert not {"moments", "edit", "report"} & set(jobs)


@pytest.mark.thorough
def test_the_rebuild_is_planned_to_its_facts(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(CONTACT))
    files = ["--configfile", str(PITFALLS), "mine.yaml"]
    jobs = planned(tmp_path, *files, "--", "facts")
    assert jobs["describe_graph"] == jobs["filter_facts"] == 1
    assert not {"fetch_model", "build_cases"} & set(jobs)


@pytest.mark.thorough
def test_the_rebuild_without_a_contact_says_what_to_write(tmp_path: Path) -> None:
    without = snakemake(tmp_path, "--dry-run", "--configfile", str(PITFALLS), "--", "datasets")
    assert without.returncode == 1
    said = without.stdout + without.stderr
    assert "kgs: {wdqs: {contact: you@example.org}}" in said
    assert "Traceback" not in said
