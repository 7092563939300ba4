"""Runs on a real SLURM whose controller process is killed, and what SLURM itself says to a wrong profile."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from aftershock.jobs.orphans import job_prefix, read_run
from slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.program("slurmctld", "slurmd", "munged", "squeue")]

ROOT = Path(__file__).parents[2]
SECONDS = 240
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from aftershock.process import name_run
name_run()
localrules: all, here
rule all:
    input: expand("results/{{i}}.txt", i=range(3)), "results/here.txt"
rule here:
    output: "results/here.txt"
    log: "results/logs/here.log"
    script: "work.py"
rule work:
    output: "results/{{i}}.txt"
    log: "results/logs/{{i}}.log"
    params: value=config.get("value", 1)
    script: "work.py"
"""
WORK = """
import os, pathlib, time
from aftershock.output import whole_file
from aftershock.stage import stage
with stage(snakemake) as run, whole_file(snakemake.output[0]) as part:
    part.write_text(f"{os.environ.get('SLURM_JOB_ID')} {dict(snakemake.params.items()).get('value')}")
    while not pathlib.Path("go").exists():
        time.sleep(0.1)
"""
PROFILE = """
executor: slurm
jobs: 5
local-cores: 1
slurm-partition-config: partitions.yaml
slurm-init-seconds-before-status-checks: 4
default-resources: {mem_mb: 1000, runtime: 5}
"""
LAUNCH = (sys.executable, "-m", "aftershock.launch")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def study(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workflow with a profile, as the working directory; what is left of its jobs ends with the test."""
    yield prepare(tmp_path / "study", cluster, monkeypatch)
    cluster.run("scancel", "--me", check=False)
    cluster.wait_until(lambda: not jobs(cluster), 30, "jobs stay")


def prepare(folder: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workflow, in an environment in which SLURM's programs speak to this cluster."""
    for name, value in {**cluster.environment, "PYTHONPATH": str(ROOT / "workflow")}.items():
        monkeypatch.setenv(name, value)
    (folder / "profile").mkdir(parents=True)
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "work.py").write_text(WORK)
    (folder / "profile" / "config.yaml").write_text(PROFILE)
    (folder / "profile" / "partitions.yaml").write_text("partitions: {cpu: {}, gpu: {max_gpu: 2}}\n")
    monkeypatch.chdir(folder)
    return folder


def jobs(cluster: Cluster, *states: str) -> list[str]:
    """Ids of jobs that have not ended."""
    chosen = [f"--states={','.join(states)}"] if states else []
    return cluster.run("squeue", "--noheader", "--format=%i", *chosen).split()


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [*LAUNCH, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def begun(cluster: Cluster, working: int = 2) -> Popen:
    """A run of which so many stages are at work, the local one among them."""
    output = open("output.txt", "w")  # noqa: SIM115
    started = Popen([*LAUNCH, "--profile", "profile"], stdout=output, stderr=output)
    parts = lambda: len(list(Path("results").glob(".*.txt.*.part"))) >= working + 1  # noqa: E731
    cluster.wait_until(parts, 60, "no stage at work: " + Path("output.txt").read_text())
    cluster.wait_until(lambda: len(jobs(cluster)) == 3, 20, "no three jobs")
    return started


def killed(cluster: Cluster) -> None:
    """Begin a run and kill it."""
    started = begun(cluster)
    started.kill()
    started.wait()


def write_shim(program: str, line: str) -> None:
    """Write a program of SLURM that runs a line of shell before the real one, which `$@` is given to."""
    shim = Path("bin", program)
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\n{line}\nexec {shutil.which(program)} "$@"\n')
    shim.chmod(0o755)


def made() -> dict[str, str]:
    """The SLURM job that made each output, and the value that it had."""
    return {path.stem: path.read_text() for path in sorted(Path("results").glob("*.txt"))}


def test_jobs_of_a_killed_run_are_waited_for_and_their_work_is_kept(study: Path, cluster: Cluster) -> None:
    first = begun(cluster)
    names = cluster.run("squeue", "--noheader", "--format=%j").split()
    assert all(name.startswith(f"{job_prefix(study / 'results')}_") for name in names)
    for second in (run("--cores", "1"), run("--profile", "profile"), run("--resume")):
        assert second.stderr.startswith(f"another run is working in results/: process {first.pid}, started 2")
    first.kill()
    first.wait()
    working, waiting = jobs(cluster, "RUNNING"), jobs(cluster, "PENDING")
    still = "3 jobs of an earlier run of this folder are still in SLURM (2 running, 1 pending: "
    for refused in (run("--cores", "1"), run("--profile", "profile")):
        assert refused.returncode == 1
        assert refused.stderr.startswith(still)
        assert "aftershock resume" in refused.stderr
    resumed = Popen([*LAUNCH, "--resume"], stderr=subprocess.PIPE, text=True)
    cluster.wait_until(lambda: jobs(cluster) == working, 30, "the pending job stays")
    assert not made()  # the stage that ran here is gone, and the jobs still work
    Path("go").touch()
    said = resumed.communicate(timeout=SECONDS)[1]
    assert resumed.returncode == 0, said
    assert "Cancelling 1 job of the last run that had not started." in said
    assert f"Waiting for 2 jobs of the last run: {' '.join(working)}." in said
    assert "Taken over from jobs that ended without their run: 2." in said
    ids = {name: text.split()[0] for name, text in made().items()}
    assert set(working) < set(ids.values())
    assert not set(waiting) & set(ids.values())
    assert not list(Path("results").rglob("*.part"))
    assert read_run().exit == 0
    assert "Nothing to be done" in run("--profile", "profile").stderr


def test_jobs_of_a_killed_run_are_cancelled_when_asked(study: Path, cluster: Cluster) -> None:
    killed(cluster)
    old = jobs(cluster)
    cancelled = Popen([*LAUNCH, "--resume", "--orphans", "cancel"], stderr=subprocess.PIPE, text=True)
    cluster.wait_until(lambda: not set(old) & set(jobs(cluster)), 60, "the jobs stay")
    Path("go").touch()
    said = cancelled.communicate(timeout=SECONDS)[1]
    assert cancelled.returncode == 0, said
    assert "Cancelling 2 jobs of the last run: " in said
    assert not set(old) & {text.split()[0] for text in made().values()}
    assert len(made()) == 4
    assert not list(Path("results").rglob("*.part"))


def test_what_orphans_made_from_other_settings_is_made_again(study: Path, cluster: Cluster) -> None:
    killed(cluster)
    Path("go").touch()
    resumed = run("--resume", "--config", "value=2")
    assert resumed.returncode == 0, resumed.stderr
    assert "Made again, as what made them has changed or is not known: 2, such as" in resumed.stderr
    assert [made()[name].split()[1] for name in "012"] == ["2", "2", "2"]


def test_a_stage_whose_snakemake_died_leaves_no_output(study: Path, cluster: Cluster) -> None:
    first = begun(cluster)
    stages = [p for p in psutil.process_iter() if _is_stage_of_job(p, study)]
    assert len(stages) == 2
    for stage in stages:
        stage.parent().kill()
    _, alive = psutil.wait_procs(stages, timeout=5)
    assert not alive
    Path("go").touch()
    assert first.wait(SECONDS) != 0
    assert set(made()) < {"0", "1", "2", "here"}
    again = run("--profile", "profile")
    assert again.returncode == 0, again.stderr
    assert len(made()) == 4


def _is_stage_of_job(process: psutil.Process, folder: Path) -> bool:
    try:
        ours = process.cwd() == str(folder) and ".snakemake/scripts/" in " ".join(process.cmdline())
        return ours and "SLURM_JOB_ID" in process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def test_a_run_inside_a_slurm_job(study: Path, cluster: Cluster) -> None:
    """The executor plugin takes SLURM_CONF away there, which only clusters without /etc/slurm need."""
    for program in ("sbatch", "squeue", "scontrol", "scancel", "sinfo"):
        write_shim(program, f"export SLURM_CONF={cluster.environment['SLURM_CONF']}")
    Path("go").touch()
    wrapped = f"PATH={study / 'bin'}:$PATH {' '.join(LAUNCH)} --profile profile"
    options = ("--mem=2000", "--output=output.txt", f"--chdir={study}")
    run_id = cluster.run("sbatch", "--parsable", *options, f"--wrap={wrapped}").strip()
    cluster.wait_until(lambda: run_id not in jobs(cluster), SECONDS, "the run does not end")
    ids = {name: text.split()[0] for name, text in made().items()}
    assert len(ids) == 4, Path("output.txt").read_text()
    assert ids["here"] == "None"  # the plugin takes that away too, and the stage still belongs to the run
    assert not {run_id, "None"} & {ids[name] for name in "012"}


def test_a_wrong_profile_is_refused_before_anything_is_submitted(study: Path, cluster: Cluster) -> None:
    partitions = Path("profile/partitions.yaml")
    before = cluster.run("squeue", "--states=all", "--noheader", "--format=%i")
    partitions.write_text("partitions: {gpuu: {max_gpu: 1}}\n")
    known = "partition 'gpuu' (profile/partitions.yaml) does not exist. Did you mean 'gpu'? Known: cpu, gpu"
    assert known in run("--profile", "profile").stderr
    partitions.write_text("partitions: {gpu: {max_gpu: 1, available_gpu_models: [a100]}}\n")
    said = run("--profile", "profile", "--config", "gpus={h100: x}").stderr
    assert "config gpus: no node has a GPU of type 'h100'. Types there: fake" in said
    assert "partition 'gpu': no node has a GPU of type 'a100'. Types there: fake" in said
    assert cluster.run("squeue", "--states=all", "--noheader", "--format=%i") == before
    assert not made()


def test_a_controller_that_stands_still(study: Path, cluster: Cluster) -> None:
    controller = cluster.process("slurmctld")
    controller.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        said = run("--profile", "profile").stderr
        assert said.startswith("SLURM does not answer: scontrol said nothing for 8 s.")
        assert time.monotonic() - began < 15
    finally:
        controller.send_signal(signal.SIGCONT)


def test_a_run_lives_through_an_outage_of_the_controller(study: Path, cluster: Cluster) -> None:
    outage, asked = study / "outage", study / "asked"
    for program in ("squeue", "scontrol"):
        write_shim(program, f"if [ -e {outage} ]; then echo {program} >> {asked}; exit 1; fi")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{study / 'bin'}:{os.environ['PATH']}")
        first = begun(cluster)
    outage.touch()
    cluster.wait_until(lambda: asked.exists() and "scontrol" in asked.read_text(), 60, "not asked")
    time.sleep(3)  # until the round of questions is over
    outage.unlink()
    Path("go").touch()
    assert first.wait(SECONDS) == 0, Path("output.txt").read_text()
    assert len(made()) == 4


@pytest.mark.program("slurmdbd", "mariadbd")
def test_accounting_is_asked_while_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(tmp_path / "cluster", accounting=True) as cluster:
        prepare(tmp_path / "study", cluster, monkeypatch)
        Path("go").touch()
        refused = run("--profile", "profile", "--default-resources", "slurm_account=labb", "mem_mb=1000")
        assert "account 'labb' is not known for" in refused.stderr
        assert "Did you mean 'lab'? Known: " in refused.stderr
        done = run("--profile", "profile", "--verbose")
        assert done.returncode == 0, done.stderr
        assert "command=sacct" in done.stderr
        cluster.stop_daemon("slurmdbd")
        Path("results/0.txt").unlink()
        done = run("--profile", "profile", "--verbose")
        assert done.returncode == 0, done.stderr
        assert "command=squeue" in done.stderr
