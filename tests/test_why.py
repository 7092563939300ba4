"""`make why` on recorded runs: tests/faults/ has the logs and records that real faults left.

`cluster` ran on a real SLURM cluster of one node: each rule is named after what was done to its job. `again`
is the run after it, with a retry. `workstation` ran without SLURM.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aftershock.jobs import slurm_jobs, why
from aftershock.jobs.slurm_jobs import SlurmJob
from aftershock.jobs.why import look, main, told

FAULTS = Path(__file__).parent / "faults"
PLACES = {"log": ".snakemake/log", "slurm_logs": ".snakemake/slurm_logs", "jobs": "results/jobs"}
RECORDED = 1_795_275_000
JOB = "toy.00000-00031"
IN_PROFILE = "in profile/config.yaml"
CLUSTER = {
    "node": (
        "node",
        "its node node1 went down",
        "`slurm-exclude-failed-nodes: node1` in profile/config.yaml",
    ),
    "scancel": ("cancelled", "cancelled after 4 s with 4 of 32 cases done", "`make resume`"),
    "time": (
        "time",
        "its time limit of 1 min was over with 14 of 32 cases done",
        f"`set-resources: time: runtime: 3` {IN_PROFILE}, or cut smaller shards",
    ),
    "oom": (
        "memory",
        "out of memory: 2002 MB used, 2000 MB allowed at most in 2 attempts",
        f"`set-resources: oom: mem_mb: 4000` {IN_PROFILE}",
    ),
    "memory": ("memory", "161 MB in use before: Unable to allocate 74.5 GiB", "memory: mem_mb: 92000`"),
    "torch": ("memory", "225 MB in use before: [enforce fail", "torch: mem_mb: 46500`"),
    "killed": ("killed", "killed by SIGKILL without a word after 2 s, 161 MB in use", "`make resume`"),
    "nan": ("nan", "MEND's training diverged: the loss was nan in step 12", "change the settings it names"),
    "value": ("input", "resources/relations.tsv: row 7 (P22): no column 'namespace'; add it", "put right"),
    "full": (
        "disk",
        "the disk is full or its quota used up: [Errno 28]",
        "free some space or raise the quota",
    ),
    "missing": ("missing input", "'results/models/none/model.safetensors'", "makes deleted files anew"),
    "error": ("program", "KeyError: 'key'", "traceback in results/logs/error/toy.00000-00031.log"),
    "early": ("environment", "ModuleNotFoundError: No module named 'not_installed_here'", "make environment"),
    "noout": ("missing output", "Snakemake does not see what it wrote", f"`latency-wait` {IN_PROFILE}"),
    "partition": ("rejected", "Invalid partition name specified", "`sinfo --summarize` lists"),
    "gpu": (
        "rejected",
        "Requested node configuration is not available",
        f"lower what gpu asks for {IN_PROFILE}",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, at the times that the recorded logs have, without SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(slurm_jobs, "known_jobs", lambda folder: {})
    monkeypatch.setattr(slurm_jobs, "ended_jobs", lambda ids: {})
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


def lay_out(folder: Path, name: str) -> None:
    """Put a recorded run in its place below `folder`."""
    for kind, place in PLACES.items():
        for path in sorted((FAULTS / name / kind).rglob("*.*")):
            target = folder / place / path.relative_to(FAULTS / name / kind)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text().replace("/study/", f"{folder}/"))
            os.utime(target, (RECORDED, RECORDED))
    arguments = ["--profile", "profile"] if name != "workstation" else ["--cores", "2"]
    run = {"arguments": arguments, "host": "node1", "pid": 1, "started": "2026-11-21 15:17:36", "exit": 1}
    (folder / "results/.run.json").write_text(json.dumps(run))


def test_every_cause_on_a_cluster(folder: Path) -> None:
    lay_out(folder, "cluster")
    found = {job.rule: (job, cause) for job, cause in look().failed}
    assert found.keys() == CLUSTER.keys()
    for rule, (kind, what, remedy) in CLUSTER.items():
        cause = found[rule][1]
        assert cause.kind == kind, rule
        assert what in cause.what, rule
        assert remedy in cause.remedy, rule


def test_a_line_for_each_failed_job(folder: Path, capsys: pytest.CaptureFixture) -> None:
    lay_out(folder, "cluster")
    assert main([]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{len(CLUSTER)} jobs failed:"
    assert sorted(line.split()[0] for line in said[1:]) == sorted(CLUSTER)
    assert (
        f"oom {JOB} (2 attempts): out of memory: 2002 MB used, 2000 MB allowed at most in 2 attempts -> "
        "give it more: `set-resources: oom: mem_mb: 4000` in profile/config.yaml" in said
    )


def test_json_has_the_same(folder: Path, capsys: pytest.CaptureFixture) -> None:
    lay_out(folder, "cluster")
    assert main(["--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["rule"]: row["kind"] for row in rows} == {rule: kind for rule, (kind, *_) in CLUSTER.items()}
    assert {row["attempts"] for row in rows if row["rule"] == "oom"} == {2}


def test_what_a_later_run_made_is_not_listed(folder: Path) -> None:
    lay_out(folder, "cluster")
    lay_out(folder, "again")  # in this run node went well, retry at its second attempt, oom not at all
    found = look()
    listed = {job.rule: (job, cause) for job, cause in found.failed}
    assert "node" not in listed
    assert "retry" not in listed
    assert found.fixed == 2
    assert "2 jobs failed before and were made later." in told(found)
    assert len(listed["oom"][0].failures) == 4
    assert listed["oom"][1].remedy.startswith("give it more: `set-resources: oom: mem_mb: 4000`")


def test_outputs_made_later_count_without_a_record(folder: Path) -> None:
    lay_out(folder, "cluster")
    shutil.rmtree("results/jobs")
    Path("results/value").mkdir()
    made = Path("results/value/toy.00000-00031.txt")
    made.write_text("")
    assert "value" not in {job.rule for job, _ in look().failed}
    os.utime(made, (0, 0))
    assert "value" in {job.rule for job, _ in look().failed}


def test_failures_before_a_complete_run_are_counted_only(folder: Path) -> None:
    lay_out(folder, "workstation")
    later = folder / ".snakemake/log/2026-11-21T160000.1.snakemake.log"
    later.write_text("Building DAG of jobs...\nNothing to be done (all files are up to date).\n")
    found = look()
    assert (found.failed, found.earlier, found.good) == ([], 3, True)
    assert len(look(everything=True).failed) == 3


def test_without_slurm(folder: Path) -> None:
    lay_out(folder, "workstation")
    causes = {job.rule: cause for job, cause in look().failed}
    assert {rule: cause.kind for rule, cause in causes.items()} == {
        "killed": "killed",
        "value": "input",
        "memory": "memory",
    }
    assert "killed by SIGKILL" in causes["killed"].what
    assert "--cores 1" in causes["killed"].remedy
    assert "--cores 1" in causes["memory"].remedy


@pytest.mark.parametrize("damage", ["records", "slurm_logs", "half_log", "no_log"])
def test_damaged_folders(folder: Path, damage: str) -> None:
    lay_out(folder, "cluster")
    log = next(Path(".snakemake/log").iterdir())
    if damage == "records":
        for path in Path("results/jobs").rglob("*.json"):
            path.write_text(path.read_text()[:100])
    elif damage == "slurm_logs":
        shutil.rmtree(".snakemake/slurm_logs")
    elif damage == "half_log":
        log.write_bytes(log.read_bytes()[: log.stat().st_size // 2] + b"\xff\xfe")
    else:
        log.unlink()
    found = look()
    assert found.failed
    assert all(cause.what and cause.remedy for _, cause in found.failed)
    if damage == "records":  # SLURM's logs alone still tell these
        kinds = {job.rule: cause.kind for job, cause in found.failed}
        assert kinds["oom"] == "memory"
        assert kinds["value"] == "input"
        assert kinds["time"] == "time"


def test_an_empty_folder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == "No run has left anything here yet.\n"
    assert not list(folder.iterdir())


def log(folder: Path, text: str) -> None:
    path = folder / ".snakemake/log/2026-11-21T145600.1.snakemake.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


BEGUN = """\
Building DAG of jobs...
Job stats:
job      count
-----  -------
hold         1
total        1

[Sat Nov 21 15:02:54 2026]
Job 1: Working on hold 00000-00031
"""


def test_outputs_that_do_not_show(folder: Path) -> None:
    log(
        folder,
        BEGUN + "Waiting at most 5 seconds for missing files:\nresults/hold/toy.txt (missing locally)\n"
        'MissingOutputException in rule hold in file "/study/Snakefile", line 10:\n'
        "Job 1  completed successfully, but some output files are missing. Missing files after 5 seconds.\n"
        "results/hold/toy.txt (missing locally, parent dir contents: )\n"
        "Exiting because a job execution failed. Look above for error messages\nComplete log(s): x\n",
    )
    fields = json.loads((FAULTS / "workstation/jobs/done/00000-00031.json").read_text())
    fields |= {"rule": "hold", "log": "results/logs/hold/toy.log", "outputs": ["results/hold/toy.txt"]}
    Path("results/jobs/hold").mkdir(parents=True)
    Path("results/jobs/hold/a.json").write_text(json.dumps(fields | {"started": 1795273370.0}))
    ((job, cause),) = look().failed
    assert (job.name, cause.kind) == ("hold toy", "missing output")
    Path("results/hold").mkdir()
    Path("results/hold/toy.txt").write_text("")  # it came later
    assert look().good


def test_a_run_that_was_killed(folder: Path) -> None:
    log(folder, BEGUN)
    fields = {
        "rule": "hold",
        "log": f"results/logs/hold/{JOB}.log",
        "state": "running",
        "host": os.uname().nodename,
    }
    record = Path("results/jobs/hold/a.json")
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps(fields | {"pid": 2**22 - 1, "started": 1795273374.0, "seconds": 20.0}))
    found = look()
    assert found.run == ["its Snakemake was killed after 2026-11-21 15:02 -> `make resume` goes on"]
    assert [cause.what for _, cause in found.failed] == ["ended after 20 s as its run was killed"]


def test_a_run_that_its_user_ended(folder: Path) -> None:
    log(folder, BEGUN + "Terminating processes on user request, this might take some time.\n")
    assert look().run == ["ended by its user at 2026-11-21 15:02 -> `make resume` goes on"]


def test_a_run_without_its_input(folder: Path) -> None:
    log(
        folder,
        'Building DAG of jobs...\nMissingInputException in rule absent in file "/study/Snakefile", line 24:\n'
        "Missing input files for rule absent:\n    output: results/absent/toy.txt\n    affected files:\n"
        "        resources/nothing.tsv\n",
    )
    (line,) = look().run
    assert "before its first job" in line
    assert "resources/nothing.tsv" in line


def test_a_run_with_a_wrong_configuration(folder: Path) -> None:
    log(
        folder,
        'WorkflowError in file "/study/workflow/rules/common.smk", line 29:\n'
        "1 error in the configuration or in resources/:\n  nonsense: unknown key; known: cases\n"
        '  File "/study/x.smk", line 29, in <module>\n',
    )
    said = "1 error in the configuration or in resources/: nonsense: unknown key; known: cases"
    assert look().run == [
        f"stopped at 2026-11-21 14:56 before its first job: {said} -> put right what it names"
    ]


def test_foreign_text_is_no_command_to_a_terminal(folder: Path) -> None:
    lay_out(folder, "workstation")
    record = next(Path("results/jobs/value").iterdir())
    fields = json.loads(record.read_text())
    fields["error"]["text"] = "no label \x1b[2J\u202eab\nc"
    record.write_text(json.dumps(fields))
    (line,) = [line for line in told(look()) if line.startswith("value")]
    assert "no label ?[2J?ab c -> " in line


def test_a_full_disk_is_said_whatever_else_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 0))
    assert "the disk of results/ is full (0 MB free)" in look().run[0]


def test_jobs_that_run_again_are_no_failures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(folder, "cluster")
    record = Path("results/jobs/node/00000-00031.json")
    fields = json.loads(record.read_text())
    record.write_text(json.dumps(fields | {"state": "stopped"}))
    requeued = SlurmJob(fields["slurm_job"], "PENDING", "BeginTime", restarts=1)
    monkeypatch.setattr(slurm_jobs, "known_jobs", lambda folder: {requeued.id: requeued})
    found = look()
    assert "node" not in {job.rule for job, _ in found.failed}
    assert found.under_way == 1
    assert told(found)[-1] == "1 job failed before and runs again, or waits for that."


def test_many_jobs_with_one_cause_are_summed_up(folder: Path) -> None:
    for i in range(why.LISTED + 5):
        record = Path(f"results/jobs/edit/{i:05d}.json")
        record.parent.mkdir(parents=True, exist_ok=True)
        error = {"kind": "ValueError", "text": "no such relation", "place": ""}
        fields = {"rule": "edit", "log": f"results/logs/edit/{i:05d}.log", "state": "failed", "error": error}
        fields |= {"host": "node1", "pid": 1, "started": 1.0 + i, "seconds": 2.0}
        record.write_text(json.dumps(fields))
    lines = told(look())
    assert len(lines) == why.LISTED + 2
    assert lines[-1] == "edit: 5 more with the same cause (input); ARGS=--all lists them"
    assert len(told(look(True), True)) == why.LISTED + 6


def test_two_thousand_records_take_no_two_seconds(folder: Path) -> None:
    """All of them failed on a cluster, with a log of SLURM each."""
    text = (FAULTS / "cluster/jobs/killed/00000-00031.json").read_text()
    slurm_log = (FAULTS / "cluster/slurm_logs/rule_oom/00000-00031/19.log").read_text()
    said = []
    for i in range(2000):
        logs = Path(f".snakemake/slurm_logs/rule_edit/{i}")
        logs.mkdir(parents=True)
        (logs / f"{i}.log").write_text(slurm_log)
        record = Path(f"results/jobs/edit/{i}.json")
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(text.replace("killed/toy.00000-00031.log", f"edit/{i}.log"))
        said += ["[Sat Nov 21 15:22:43 2026]", "Error in rule edit:", f"    message: SLURM-job '{i}' failed."]
        said += [f"    jobid: {i}", f"    log: results/logs/edit/{i}.log, {folder}/{logs}/{i}.log"]
        said += [f"    external_jobid: {i}"]
    log(folder, "Building DAG of jobs...\nJob stats:\nedit  2000\ntotal  2000\n" + "\n".join(said))
    started = time.process_time()
    found = look()
    assert time.process_time() - started < 2
    assert {cause.kind for _, cause in found.failed} == {"memory"}
    assert len(found.failed) == 2000
