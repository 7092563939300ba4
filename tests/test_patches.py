"""Results that stay where their content has stayed, and folders of any name, in runs of a small workflow."""

import inspect
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from snakemake.jobs import Job
from snakemake.script import PythonScript

import started

ROOT = Path(__file__).parents[1]
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from aftershock.jobs.patches import patch_snakemake
from aftershock.provenance.code_hash import code_hash
patch_snakemake()
rule all:
    input: "results/last.txt"
rule first:
    input: "given.txt"
    output: directory("results/first")
    script: "first.py"
rule last:
    input: "results/first"
    output: "results/last.txt"
    params: fails=config.get("fails", False)
    script: "last.py"
for each in workflow.rules:
    if each.script:
        each.set_params(code=code_hash(workflow.basedir + "/" + str(each.script).rpartition("/")[2]))
"""
FIRST = """
from aftershock.output import whole_folder
with whole_folder(snakemake.output[0]) as part:
    (part / "a.txt").write_text(open(snakemake.input[0]).read())
"""
LAST = """
from pathlib import Path
from aftershock.output import write_text
assert not snakemake.params.fails
write_text(snakemake.output[0], Path(snakemake.input[0], "a.txt").read_text())
"""


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    texts = {"Snakefile": SNAKEFILE, "first.py": FIRST, "last.py": LAST, "given.txt": "some"}
    for name, text in texts.items():
        (folder / name).write_text(text)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    return folder


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    return started.snakemake(folder, "--cores", "1", "--scheduler", "greedy", *options, **environment)


def is_up_to_date(folder: Path) -> bool:
    ran = run(folder, "-n")
    assert ran.returncode == 0, ran.stderr
    return "Nothing to be done" in ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small workflow has run."""
    folder = make(tmp_path_factory.mktemp("made") / "project")
    ran = run(folder)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same project in a new folder, its files new, with the results copied in without their dates."""
    folder = make(tmp_path / "copy")
    for name in ("results", ".snakemake"):
        shutil.copytree(made / name, folder / name, copy_function=shutil.copyfile)
    late = time.time()
    os.utime(folder / "results/first/.snakemake_timestamp", (late, late))
    return folder


def test_a_copied_study_is_up_to_date(copied: Path) -> None:
    assert is_up_to_date(copied)


def test_content_counts_and_not_dates(copied: Path) -> None:
    late = time.time()
    for name in ("Snakefile", "first.py", "last.py", "given.txt"):
        os.utime(copied / name, (late, late))
    assert is_up_to_date(copied)
    (copied / "last.py").write_text(f"# a comment\n{LAST}")
    assert is_up_to_date(copied)
    (copied / "last.py").write_text(f"{LAST}\nmore = 1\n")
    assert not is_up_to_date(copied)
    (copied / "last.py").write_text(LAST)
    (copied / "given.txt").write_text("other")
    assert not is_up_to_date(copied)


def test_what_is_there_stays_until_a_job_has_made_it_anew(copied: Path) -> None:
    last = copied / "results/last.txt"
    ran = run(copied, "--config", "fails=True")
    assert ran.returncode != 0
    assert last.read_text() == "some"
    assert not is_up_to_date(copied)  # though the file is there: the job that was to make it failed
    (copied / "given.txt").write_text("other")
    assert run(copied).returncode == 0
    assert last.read_text() == "other"
    assert is_up_to_date(copied)


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    """The interpreter lies below the folder, as .venv does."""
    folder = make(tmp_path / "a b/us'er" / 'q"(d&$HOME;`b' / "-back\\slash 中文" / "project")
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (folder / "Snakefile").write_text(f"import sys; sys.executable = {str(python)!r}\n{SNAKEFILE}")
    ran = run(folder, TMPDIR=str(folder), HOME=str(folder))
    assert ran.returncode == 0, ran.stderr
    assert (folder / "results/last.txt").read_text() == "some"


def test_the_profile_holds_for_a_bare_snakemake() -> None:
    """Scripts are compared by content, so the trigger that compares their dates is off."""
    profile = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8"))
    assert "code" not in profile["rerun-triggers"]
    assert {"input", "mtime", "params", "software-env"} == set(profile["rerun-triggers"])


def test_snakemake_still_needs_the_patches() -> None:
    """Find what patches are for: if this fails, one in jobs/patches.py may go."""
    # run_scripts: each script starts an interpreter of its own, by its bare path
    assert '"{py_exec} {fname:q}"' in inspect.getsource(PythonScript.execute_script)
    source = inspect.getsource(inspect.getmodule(Job))
    assert "await self.remove_existing_output()" in source
    assert "persistence.finished(self)" in source
