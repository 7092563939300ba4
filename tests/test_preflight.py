"""Messages to a run on a cluster before it submits anything; SLURM's programs are fakes."""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

import started
from aftershock.jobs import slurm
from aftershock.jobs.folder import SPECIAL, PreflightError, check_names
from aftershock.launch import _options, configuration_of
from fake_slurm import PROGRAMS, SETTINGS, FakeSlurm

ROOT = Path(__file__).parents[1]
PARTITION_FILE = "partitions:\n  cpu: {}\n  gpu: {max_gpu: 4, available_gpu_models: [a100]}\n"
PROFILE = """\
executor: slurm
jobs: 5
slurm-partition-config: partitions.yaml
slurm-init-seconds-before-status-checks: 7
config:
  gpus: "{a100: a100-80gb}"
default-resources:
  mem_mb: 1000
  slurm_account: "'lab, lab2'"
set-resources:
  edit: {slurm_partition: gpu, qos: "'a' if attempt > 1 else 'b'"}
"""


@pytest.fixture
def profile(folder: Path) -> Path:
    """A profile in the working directory."""
    made = folder / "profile"
    made.mkdir()
    (made / "config.yaml").write_text(PROFILE)
    (made / "partitions.yaml").write_text(PARTITION_FILE)
    return made


def accounting(fake: FakeSlurm) -> None:
    fake.says("scontrol", SETTINGS.replace("storage/none", "storage/slurmdbd"))


def checked(file: Path | None = None, gpus: Sequence[str] = (), **resources: str) -> str:
    """Check a run with this file of partitions, and these default resources."""
    raw = {f"slurm_{name}": SimpleNamespace(raw=text) for name, text in resources.items()}
    given = MISSING if file is None else file
    options = Namespace(slurm_partition_config=given, default_resources=raw, set_resources=None)
    return slurm.check_cluster(options, gpus)


def told(*given: Path, **asked: object) -> str:
    """Return the message to a run that asks for this."""
    with pytest.raises(PreflightError) as caught:
        checked(*given, **asked)
    return str(caught.value)


@pytest.mark.parametrize(
    "given",
    [["--profile", "profile"], ["--workflow-profile", "profile"], ["--executor", "slurm", "--jobs", "5"]],
)
def test_the_executor_is_snakemakes_choice(fake: FakeSlurm, profile: Path, given: list[str]) -> None:
    assert _options(given, slurm_answers=True).executor == "slurm"
    assert _options([*given, "--executor", "local"], slurm_answers=True).executor == "local"


def test_the_requests_of_a_run_are_in_its_arguments(fake: FakeSlurm, profile: Path) -> None:
    """Names that a job computes are left to it."""
    options = _options(["--profile", "profile"], slurm_answers=True)
    assert list(slurm._named("slurm_partition", options)) == ["gpu"]
    assert list(slurm._named("slurm_account", options)) == ["lab", "lab2"]
    assert not slurm._named("qos", options)
    (profile / "partitions.yaml").write_text("partitions: {gpus: {}}\n")
    with pytest.raises(PreflightError, match="'gpus' .profile/partitions.yaml. does not exist"):
        slurm.check_cluster(options, ())


def test_config_files_tell_gpus_too(fake: FakeSlurm, profile: Path) -> None:
    Path("config.yaml").write_text("gpus: {k80: k80}\n")
    Path("study.yaml").write_text("gpus: {v100: v100-32gb}\n")
    options = _options(["--profile", "profile", "--configfile", "study.yaml"], slurm_answers=True)
    assert list(configuration_of(options)["gpus"]) == ["k80", "v100", "a100"]


def test_a_run_that_fits(fake: FakeSlurm, profile: Path) -> None:
    asked = {"file": profile / "partitions.yaml", "partition": "gpu", "gpus": ["v100"]}
    assert checked(**asked) == "squeue"
    accounting(fake)
    assert checked(**asked) == "sacct"
    assert not fake.asked("sbatch")


def test_partitions_that_are_missing_or_down(fake: FakeSlurm, profile: Path) -> None:
    file = profile / "partitions.yaml"
    file.write_text("partitions: {gpus: {max_gpu: 1}, cpu: {}}\n")
    known = "Did you mean 'gpu'? Known: cpu, gpu, old"
    assert told(file, partition="gpx").splitlines() == [
        f"partition 'gpx' (resource slurm_partition) does not exist. {known}",
        f"partition 'gpus' ({file}) does not exist. {known}",
    ]


NO_PARTITIONS = ("[cpu]", "partitions: cpu", "partitions: {cpu: {odd: 1}}", "{", "other: 1")


@pytest.mark.parametrize("text", NO_PARTITIONS)
def test_a_file_that_is_none_of_partitions(fake: FakeSlurm, profile: Path, text: str) -> None:
    path = profile / "partitions.yaml"
    path.write_text(text)
    assert f"{path} is no file of partitions" in told(path)


def test_a_gpu_that_nobody_has(fake: FakeSlurm, profile: Path) -> None:
    assert told(gpus=["a1000", "a100"]) == (
        "config gpus: no node has a GPU of type 'a1000'. Did you mean 'a100'? Types there: 1g.5gb, a100, v100"
    )
    (profile / "partitions.yaml").write_text("partitions: {old: {available_gpu_models: [a100]}}\n")
    said = told(profile / "partitions.yaml").splitlines()[0]
    assert said == "partition 'old': no node has a GPU of type 'a100'. Types there: none"


def test_an_unknown_account(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    accounting(fake)
    assert checked(account="lab") == "sacct"  # which knows nobody
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    fake.says("sacctmgr", "|root\nroot|root\nada|labor\nbob|lab2\n")
    assert told(account="'lab'") == "account 'lab' is not known for ada. Did you mean 'labor'? Known: labor"
    fake.says("sacctmgr", "|root\nbob|lab\n")
    assert "Known: none" in told(account="lab")


def test_without_the_executor_plugin(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ExecutorPluginRegistry().plugins, "slurm")
    with pytest.raises(PreflightError, match="is not installed. Install it: pip install --group slurm"):
        _options(["--executor", "slurm"], slurm_answers=True)
    assert _options(["--executor", "sloe"], slurm_answers=True) is None


@pytest.mark.parametrize("name", ["a b", "it's", "a;b", "a&b", "$HOME"])
def test_a_path_that_a_shell_would_take_apart(folder: Path, monkeypatch, name: str) -> None:
    (folder / name).mkdir()
    monkeypatch.chdir(folder / name)
    with pytest.raises(PreflightError, match="Snakemake cannot work in .* Rename the folder"):
        check_names(Path(), special=SPECIAL)


def launch(*given: str, **more: str) -> subprocess.CompletedProcess:
    return started.module("aftershock.launch", Path.cwd(), *given, PYTHONPATH=str(ROOT / "workflow"), **more)


@pytest.mark.plain_path
def test_no_slurm_is_one_line(fake: FakeSlurm, profile: Path) -> None:
    for program in ("sinfo", "sbatch"):
        (fake.folder / program).unlink()
    run = launch("--profile", "profile", PATH=str(fake.folder))
    assert run.returncode == 1
    assert run.stderr.startswith("no SLURM on ")
    assert run.stderr.count("\n") == 1
    assert not Path("results").exists()


@pytest.mark.plain_path
def test_a_controller_that_hangs_is_one_line_and_asked_once(fake: FakeSlurm, profile: Path) -> None:
    for program in ("sinfo", "squeue", "scontrol", "sacct"):
        fake.says(program, seconds=40)
    command = [sys.executable, "-m", "aftershock.launch", "--profile", "profile"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stderr.startswith("SLURM does not answer: scontrol said nothing for 8 s.")
    assert run.stderr.count("\n") == 1
    assert len(fake.asked("scontrol")) == 1  # and not by Snakemake's plugin too


@pytest.mark.plain_path
def test_nothing_is_submitted_or_recorded_after_a_refusal(fake: FakeSlurm, profile: Path) -> None:
    Path("Snakefile").write_text("rule all:\n    output: 'results/a'\n    shell: 'touch {output}'\n")
    (profile / "partitions.yaml").write_text("partitions: {gpus: {}}\n")
    run = launch("--profile", "profile")
    assert run.stderr.startswith(
        "partition 'gpus' (profile/partitions.yaml) does not exist. Did you mean 'gpu'?"
    )
    assert run.returncode == 1
    assert not Path("results/.runs").exists()
    assert not fake.asked("sbatch")
    for program in PROGRAMS:
        (fake.folder / program).unlink()
    dry = launch("--profile", "profile", "-np")  # asks for nothing, so needs no cluster
    assert dry.returncode == 0, dry.stderr
