"""The rules of tasks as they are planned and run, and downloads from a hub on this machine."""

import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

import started
from aftershock.tables import provenance_of
from aftershock.tables.sequences import TASK_ITEMS
from aftershock.tasks.downloads import download
from aftershock.tasks.sources import read_rows
from loopback import loopback_hub

ROOT = Path(__file__).parents[1]
TASK = """
title: {name}
kind: choice
metrics: [acc]
data: {{hub: owner/{name}, items: {{local: [{name}.jsonl], files: [test.parquet]}}}}
item: {{question: "{{{{ name }}}} is", choices: [" red", " blue"], gold: label}}
"""
ITEMS = "results/world/tasks/{}/items.parquet"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project with resources of its own, and data of two tasks beside a plan that measures one."""
    for name in ("Snakefile", "config.yaml", "workflow", "envs", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "resources").mkdir()
    for entry in (ROOT / "resources").iterdir():
        if entry.name != "tasks":
            (tmp_path / "resources" / entry.name).symlink_to(entry)
    (tmp_path / "resources" / "tasks").mkdir()
    (tmp_path / "data").mkdir()
    for name in ("colours", "paints"):
        add(tmp_path, name)
    configure(tmp_path, tasks=["colours"])
    return tmp_path


def add(project: Path, name: str, **changes: object) -> None:
    content = yaml.safe_load(TASK.format(name=name)) | changes
    (project / "resources" / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    rows = [{"name": f"thing {n}", "label": n % 2} for n in range(30)]
    if not (project / "data" / f"{name}.jsonl").exists():
        (project / "data" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def configure(project: Path, tasks: list[str], data: str | None = "data") -> None:
    plan = {"edits": {"source": "graph"}, "checkpoints": [0, 2], "editors": ["rome"], "tasks": tasks}
    plans = {"hundred": None, "short": plan}
    study = {"sequences": plans, "abilities": {"tasks": [], "data": data, "items": 40}}
    (project / "study.yaml").write_text(yaml.safe_dump(study))


def snakemake(project: Path, *arguments: str) -> str:
    options = ("--snakefile", str(project / "Snakefile"), "--cores", "1", "--configfile", "study.yaml")
    run = started.snakemake(project, *options, *arguments)
    return run.stdout + run.stderr


def test_a_task_that_is_added_or_retitled_makes_nothing_again(project: Path) -> None:
    target = ITEMS.format("colours")
    said = snakemake(project, "--", target)
    assert "colours: 30 items, of 40 that were asked for" in said
    assert len(TASK_ITEMS.read(project / target)) == 30
    assert provenance_of(project / target)["items"]["possible"] == 30
    add(project, "plain", title="Plain")
    add(project, "colours", title="All colours", differs=["nothing"], metrics=["acc", "mrr"])
    configure(project, tasks=["colours", "plain", "paints"])
    said = snakemake(project, "--dry-run", "--", target)
    assert "Nothing to be done" in said
    add(project, "colours", item=yaml.safe_load(TASK.format(name="c"))["item"] | {"question": "{{ name }}:"})
    said = snakemake(project, "--dry-run", "--", target)
    assert re.search(r"^prepare_task +1$", said, re.MULTILINE)


def test_missing_data_is_an_error_before_any_job(project: Path) -> None:
    os.remove(project / "data" / "colours.jsonl")
    said = snakemake(project, "--dry-run", "--", ITEMS.format("colours"))
    assert "task colours: the folder data has no file for its items; put colours.jsonl" in said
    assert "test.parquet of the data set owner/colours at revision main is downloaded from the Hub" in said
    configure(project, tasks=["colours"], data=None)
    said = snakemake(project, "--dry-run", "--", ITEMS.format("colours"))
    assert re.search(r"^fetch_task_data +1$", said, re.MULTILINE)


def test_data_sets_are_downloaded_with_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("red", "blue"):
        (tmp_path / "repo" / name).mkdir(parents=True)
        pd.DataFrame({"a": [name]}).to_parquet(tmp_path / "repo" / name / "test-0.parquet")
    source = {"hub": "owner/colours", "revision": "main", "files": ["*/test-*.parquet"]}
    with loopback_hub() as hub:
        hub.stand_in(monkeypatch)
        hub.add("owner/colours", tmp_path / "repo", "main", kind="dataset")
        download(source, tmp_path / "here")
        rows = read_rows(str(tmp_path / "here"))
        assert [(row["folder"], row["a"]) for row in rows] == [("blue", "blue"), ("red", "red")]
        said = r"owner/paints .* set abilities.data to a folder.*owner/paints/"
        with pytest.raises(ValueError, match=said):
            download({**source, "hub": "owner/paints"}, tmp_path / "there")
    assert not (tmp_path / "there").exists()
