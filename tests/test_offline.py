"""Stages ask no network, whatever the environment says, and rules that fetch still do."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import started
from loopback import Hub, loopback_hub
from tiny import tiny

ROOT = Path(__file__).parents[1]
RULE = """

rule ask:
    output:
        "asked.txt",
    log:
        "asked.log",
    script:
        "ask.py"
"""
SCRIPT = """
from transformers import AutoConfig
from huggingface_hub import constants, snapshot_download

from aftershock.offline import online
from aftershock.stage import stage


def said(call, name):
    try:
        call(name, revision="main")
    except Exception as error:
        return type(error).__name__
    return "found"


with stage(snakemake):
    lines = [said(AutoConfig.from_pretrained, "owner/one"), said(snapshot_download, "owner/two")]
    with online():
        lines.append(said(snapshot_download, "owner/asked"))
    lines.append(said(snapshot_download, "owner/three"))
    lines.append(str(constants.HF_HUB_DISABLE_TELEMETRY))
    with open(snakemake.output[0], "w") as file:
        print(*lines, file=file)
"""
MODEL = """
source: {hub: owner/tiny, revision: main}
n_layers: 3
moments: {text: {hub: owner/text, revision: main, files: ["*.txt"]}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The workflow with one model and one rule more."""
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    shutil.copytree(ROOT / "resources", tmp_path / "resources")
    shutil.copy(ROOT / "config.yaml", tmp_path)
    (tmp_path / "Snakefile").write_text((ROOT / "Snakefile").read_text() + RULE)
    (tmp_path / "ask.py").write_text(SCRIPT)
    (tmp_path / "resources/models/ours.yaml").write_text(MODEL)
    (tmp_path / "study.yaml").write_text("models: [ours]\n")
    return tmp_path


def snakemake(project: Path, hub: Hub, *targets: str, **environment: str) -> subprocess.CompletedProcess:
    """Snakemake as started by somebody whose environment names this hub."""
    env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(project / "home"), **environment}
    return started.snakemake(project, "--cores", "2", *targets, **env)


def test_a_stage_asks_no_network_whatever_the_environment_says(project: Path) -> None:
    with loopback_hub() as hub:
        no = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"), "0")
        run = snakemake(project, hub, "asked.txt", **no)
        assert run.returncode == 0, run.stdout + run.stderr
    one, two, asked, three, quiet = (project / "asked.txt").read_text().split()
    assert (one, asked) == ("OSError", "RepositoryNotFoundError")
    assert two == three == "LocalEntryNotFoundError"
    assert quiet == "True"
    assert hub.asked
    assert [path for path in hub.asked if "owner/asked" not in path] == []


@pytest.mark.thorough
def test_rules_that_fetch_ask_the_hub_whatever_the_environment_says(project: Path) -> None:
    lm = tiny(dtype=torch.float32)
    lm.model.save_pretrained(project / "served")
    lm.tokenizer.save_pretrained(project / "served")
    (project / "text").mkdir()
    (project / "text" / "a.txt").write_text("A line.\n")
    made = [f"results/models/ours/{name}" for name in ("weights", "text")]
    with loopback_hub() as hub:
        hub.add("owner/tiny", project / "served", "main")
        hub.add("owner/text", project / "text", "main", kind="dataset")
        run = snakemake(project, hub, *made, "--configfile", "study.yaml", HF_HUB_OFFLINE="1")
        assert run.returncode == 0, run.stdout + run.stderr
    assert (project / made[0] / "model.safetensors").is_file()
    assert (project / made[1] / "a.txt").is_file()
    # what is missing later is said before any job starts, and nobody is asked for it
    (project / made[0] / "tokenizer.json").unlink()
    hub.asked.clear()
    run = snakemake(project, hub, "results/models/ours/moments.parquet", "--configfile", "study.yaml")
    assert run.returncode == 1
    said = f"{made[0]} is no whole model: it has no tokenizer.json; rule fetch_model makes it anew"
    assert said in run.stdout + run.stderr
    assert hub.asked == []


def test_text_that_is_missing_is_named_with_its_key(project: Path) -> None:
    (project / "resources/models/ours.yaml").write_text(MODEL.replace("{hub: owner/text", "lost.txt} # "))
    with loopback_hub() as hub:
        run = snakemake(
            project, hub, "--configfile", "study.yaml", "--dry-run", "results/models/ours/moments.parquet"
        )
    assert run.returncode == 1
    assert "resources/models/ours.yaml: moments.text: there is no lost.txt" in run.stdout + run.stderr
