"""Messages to a run on a cluster before it submits anything; SLURM's programs are fakes."""

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import started
from aftershock.jobs import arguments, preflight
from aftershock.jobs.arguments import Wanted, chosen_executor, wanted
from aftershock.jobs.folder import PreflightError
from aftershock.launch import _options
from fake_slurm import PROGRAMS, SETTINGS, FakeSlurm

pytest_plugins = ("slurm_fixtures",)

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
  slurm_account: "'lab'"
set-resources:
  edit: {slurm_partition: gpu, qos: "'a' if attempt > 1 else 'b'"}
"""


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "profile"
    folder.mkdir()
    (folder / "config.yaml").write_text(PROFILE)
    (folder / "partitions.yaml").write_text(PARTITION_FILE)
    return folder


def accounting(fake: FakeSlurm) -> None:
    fake.says("scontrol", SETTINGS.replace("storage/none", "storage/slurmdbd"))


def told(**asked: object) -> str:
    """Return the message to a run that asks for this."""
    with pytest.raises(PreflightError) as caught:
        preflight.check_cluster(Wanted(**asked))
    return str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        ["--profile", "profile"],
        ["--profile", "profile/config.yaml"],
        ["--workflow-profile", "profile"],
        ["--executor", "slurm"],
        ["-e", "slurm", "--cores", "1"],
    ],
)
def test_the_executor_is_found_where_snakemake_finds_it(profile: Path, given: list[str]) -> None:
    assert chosen_executor(given) == "slurm"
    assert chosen_executor([*given, "--executor", "local"]) == "local"


def test_several_profiles_and_the_one_of_the_environment(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("local").mkdir()
    Path("local/config.yaml").write_text("cores: 2\n")
    assert chosen_executor(["--profile", "profile", "--profile", "local", "datasets"]) == "slurm"
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "profile")
    assert chosen_executor([]) == "slurm"
    assert chosen_executor(["--profile", "local"]) is None


def test_without_a_profile_the_executor_is_snakemakes_own(profile: Path) -> None:
    assert chosen_executor(["--cores", "1"]) is None


def test_the_shipped_profiles_are_understood() -> None:
    assert chosen_executor(["--profile", str(ROOT / "workflow/profiles/slurm")]) == "slurm"
    assert chosen_executor(["--profile", str(ROOT / "workflow/profiles/workstation")]) is None


def test_what_a_run_asks_for_is_in_its_arguments(fake: FakeSlurm, profile: Path) -> None:
    asked = wanted(_options(["--profile", "profile"]))
    assert asked == Wanted(
        partition_file=Path("profile/partitions.yaml"),
        partitions=("gpu",),
        accounts=("lab",),
        gpus=("a100",),
        first_look=7,
        jobs=5,
    )


def test_config_files_tell_gpus_too(fake: FakeSlurm, profile: Path) -> None:
    Path("config.yaml").write_text("gpus: {k80: k80}\n")
    Path("study.yaml").write_text("gpus: {v100: v100-32gb}\n")
    asked = wanted(_options(["--executor", "slurm", "--jobs", "1", "--configfile", "study.yaml"]))
    assert asked.gpus == ("k80", "v100")


def test_a_run_that_fits(fake: FakeSlurm, profile: Path) -> None:
    asked = Wanted(partition_file=profile / "partitions.yaml", partitions=("gpu",), gpus=("v100",))
    assert preflight.check_cluster(asked) == (["--slurm-status-command=squeue"], [])
    accounting(fake)
    assert preflight.check_cluster(asked) == (["--slurm-status-command=sacct"], [])
    assert not [call for call in fake.asked("sbatch") if "--test-only" not in call]


def test_a_partition_that_does_not_exist(fake: FakeSlurm, profile: Path) -> None:
    (profile / "partitions.yaml").write_text("partitions: {gpus: {max_gpu: 1}, cpu: {}}\n")
    said = told(partition_file=profile / "partitions.yaml", partitions=("gpx",))
    known = "Did you mean 'gpu'? Known: cpu, gpu, old"
    assert said.splitlines() == [
        f"partition 'gpus' ({profile}/partitions.yaml) does not exist. {known}",
        f"partition 'gpx' (resource slurm_partition) does not exist. {known}",
    ]


def test_a_partition_that_is_down(fake: FakeSlurm) -> None:
    assert "partition 'old' (resource slurm_partition) takes no jobs now" in told(partitions=("old",))


def test_no_partition_at_all(fake: FakeSlurm) -> None:
    fake.says("sinfo", "gpu|up|1:00:00|1|(null)\n")
    assert told() == "this cluster has no default partition. Name one in partitions.yaml. Known: gpu"


@pytest.mark.parametrize("text", ["[cpu]", "partitions: cpu", "partitions: {cpu: 5}", "{", "other: 1"])
def test_a_file_that_is_none_of_partitions(fake: FakeSlurm, profile: Path, text: str) -> None:
    path = profile / "partitions.yaml"
    path.write_text(text)
    assert f"{path} is no file of partitions" in told(partition_file=path)


def test_a_gpu_that_nobody_has(fake: FakeSlurm, profile: Path) -> None:
    said = told(gpus=("a1000", "a100"))
    assert said == (
        "config gpus: no node has a GPU of type 'a1000'. Did you mean 'a100'? Types there: 1g.5gb, a100, v100"
    )
    (profile / "partitions.yaml").write_text("partitions: {old: {available_gpu_models: [a100]}}\n")
    said = told(partition_file=profile / "partitions.yaml").splitlines()[1]
    assert said == "partition 'old': no node has a GPU of type 'a100'. Types there: none; leave the type out"


def test_an_unknown_account(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    accounting(fake)
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    fake.says("sacctmgr", "|root\nroot|root\nada|labor\nbob|lab2\n")
    said = told(accounts=("lab",))
    assert said == "account 'lab' is not known for ada. Did you mean 'labor'? Known: labor"
    fake.says("sacctmgr", "|root\nbob|lab\n")
    assert "Known: none; ask who runs the cluster for one" in told(accounts=("lab",))


def test_accounting_that_knows_nobody_refuses_nobody(fake: FakeSlurm) -> None:
    accounting(fake)
    assert preflight.check_cluster(Wanted(accounts=("lab",)))[0] == ["--slurm-status-command=sacct"]


def test_limits_beyond_those_of_slurm_are_warned_of(fake: FakeSlurm, profile: Path) -> None:
    path = profile / "partitions.yaml"
    path.write_text("partitions: {cpu: {max_runtime: 1440, max_mem_mb: 16000}, gpu: {max_mem_mb: 128001}}\n")
    warnings = preflight.check_cluster(Wanted(partition_file=path))[1]
    assert [warning.partition(",")[0] for warning in warnings] == [
        "partitions.yaml: max_runtime of 'cpu' is 1440",
        "partitions.yaml: max_mem_mb of 'gpu' is 128001",
    ]
    assert "but SLURM has 60" in warnings[0]


def test_ended_jobs_that_are_soon_forgotten(fake: FakeSlurm) -> None:
    fake.says("scontrol", SETTINGS.replace("300 sec", "60 sec"))
    said = told(first_look=40)
    assert "forgets ended jobs after 60 s (MinJobAge)" in said
    assert "at most 20" in said
    warnings = preflight.check_cluster(Wanted(first_look=20))[1]
    assert "forgets ended jobs after 60 s" in warnings[0]
    accounting(fake)
    assert preflight.check_cluster(Wanted(first_look=40)) == (["--slurm-status-command=sacct"], [])


def test_what_slurm_itself_refuses(fake: FakeSlurm) -> None:
    fake.says(
        "sbatch", error="allocation failure: Job violates accounting/QOS policy (job submit limit)\n", code=1
    )
    said = told(partitions=("cpu",), qos=("long",), accounts=("lab",))
    assert "SLURM refuses jobs in cpu: allocation failure: Job violates accounting/QOS" in said
    assert "aftershock resume" in said
    assert fake.asked("sbatch")[-1].startswith("--test-only --partition=cpu --account=lab --qos=long ")
    fake.says("sbatch", error="some rule of the site about memory\n", code=1)  # of this small job only
    assert preflight.check_cluster(Wanted(partitions=("cpu",)))


@pytest.mark.parametrize(
    ("own", "of_qos", "limit"),
    [("|normal", "normal|", None), ("7|normal", "normal|", 7), ("7|normal", "normal|5\nlong|1", 5)],
)
def test_no_more_jobs_are_submitted_than_slurm_takes(
    fake: FakeSlurm, own: str, of_qos: str, limit: int | None
) -> None:
    accounting(fake)
    fake.answers("sacctmgr", {"*user=*": own + "\n", "*MaxSubmitJobsPerUser*": of_qos + "\n"})
    chosen, warnings = preflight.check_cluster(Wanted(jobs=200))
    assert chosen[1:] == ([f"--jobs={limit}"] if limit else [])
    assert len(warnings) == (limit is not None)
    assert preflight.check_cluster(Wanted(jobs=3))[0] == chosen[:1]


@pytest.mark.plain_path
def test_without_the_executor_plugin(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "PLUGIN", "no_such_plugin")
    with pytest.raises(PreflightError, match="is not installed. Install it: pip install --group slurm"):
        preflight.check_installed([])


def launch(*given: str, **environment: str) -> subprocess.CompletedProcess:
    environment = {"PYTHONPATH": str(ROOT / "workflow"), **environment}
    return started.module("aftershock.launch", Path.cwd(), *given, **environment)


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
def test_a_controller_that_hangs_is_one_line_soon(fake: FakeSlurm, profile: Path) -> None:
    for program in ("sinfo", "squeue", "scontrol", "sacct"):
        fake.says(program, seconds=40)
    began = time.monotonic()
    run = launch("--profile", "profile")
    assert run.stderr.startswith("SLURM does not answer: scontrol said nothing for 8 s.")
    assert run.stderr.count("\n") == 1
    assert time.monotonic() - began < 15


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


def test_names_of_resources_that_a_job_computes_are_left_to_it() -> None:
    raw = {"lab, lab2": ("lab", "lab2"), "'a' if attempt > 1 else 'b'": (), "'gpu'": ("gpu",)}
    for text, names in raw.items():
        assert arguments._named("qos", [{"qos": SimpleNamespace(raw=text)}, {}]) == names
