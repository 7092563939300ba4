"""`aftershock why` on recorded runs, see recorded_faults.py."""

import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from aftershock.jobs import why
from aftershock.jobs.run import FOLDER, RunRecord
from aftershock.jobs.why import look, report, told
from recorded_faults import BEGUN, FAULTS, JOB, RECORDED, STARTED, failure, lay_out, write_job, write_run

IN_PROFILE = "in profile/config.yaml"
AGAIN = "`aftershock resume`"
CLUSTER = {
    "node": ("node", "its node node1 went down", f"`slurm-exclude-failed-nodes: node1` {IN_PROFILE}"),
    "scancel": ("cancelled", "cancelled after 4 s with 4 of 32 cases done", AGAIN),
    "time": (
        *("time", "its time limit of 1 min was over with 14 of 32 cases done"),
        f"`set-resources: time: runtime: 5` {IN_PROFILE}, or cut smaller shards",
    ),
    "oom": (
        *("memory", "out of memory: 2002 MB used, 2000 MB allowed"),
        f"`set-resources: oom: mem_mb: 4000` {IN_PROFILE}",
    ),
    "memory": ("memory", "161 MB used, 1000 MB allowed: Unable to allocate", "memory: mem_mb: 2000`"),
    "torch": ("memory", "225 MB used, 1000 MB allowed: [enforce fail", "torch: mem_mb: 2000`"),
    "killed": ("killed", "killed by SIGKILL without a word after 2 s, 161 MB used", AGAIN),
    "nan": ("nan", "MEND's training diverged: the loss was nan in step 12", "change the settings it names"),
    "value": ("input", "relations.tsv: row 7 (P22): no column 'namespace'; add it", "put right"),
    "full": ("disk", "the disk is full or its quota used up: [Errno 28]", "free some space or raise"),
    "missing": ("missing input", "'results/models/none/model.safetensors'", "makes deleted files anew"),
    "error": ("program", "KeyError: 'key'", f"traceback in results/logs/error/{JOB}.log"),
    "early": ("environment", "No module named 'not_installed_here'", "pip install --group workflow"),
    "noout": ("missing output", "Snakemake does not see what it wrote", f"`latency-wait` {IN_PROFILE}"),
    "partition": ("rejected", "Invalid partition name specified", "`sinfo --summarize` lists"),
    "gpu": ("rejected", "Requested node configuration is", f"lower what gpu asks for {IN_PROFILE}"),
}


def test_every_cause_on_a_cluster(folder: Path) -> None:
    lay_out(folder, "cluster")
    found = {job.rule: (job, cause) for job, cause in look()[1]}
    assert found.keys() == CLUSTER.keys()
    for rule, (kind, what, remedy) in CLUSTER.items():
        cause = found[rule][1]
        assert cause.kind == kind, rule
        assert what in cause.what, rule
        assert remedy in cause.remedy, rule


def test_a_line_for_each_failed_job(folder: Path, capsys: pytest.CaptureFixture) -> None:
    lay_out(folder, "cluster")
    assert not report(as_json=False)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{len(CLUSTER)} jobs failed:"
    assert sorted(line.split()[0] for line in said[1:]) == sorted(CLUSTER)
    assert (
        f"oom {JOB} (2 attempts): out of memory: 2002 MB used, 2000 MB allowed -> "
        "give it more: `set-resources: oom: mem_mb: 4000` in profile/config.yaml" in said
    )


def test_json_has_the_same(folder: Path, capsys: pytest.CaptureFixture) -> None:
    lay_out(folder, "cluster")
    assert not report(as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["rule"]: row["kind"] for row in rows} == {rule: kind for rule, (kind, *_) in CLUSTER.items()}
    assert {row["attempts"] for row in rows if row["rule"] == "oom"} == {2}


def test_what_a_later_run_made_is_not_listed(folder: Path) -> None:
    lay_out(folder, "cluster")
    lay_out(folder, "again")  # in this run node went well, retry at its second attempt, oom not at all
    listed = {job.rule: (job, cause) for job, cause in look()[1]}
    assert "node" not in listed
    assert "retry" not in listed
    assert listed["oom"][0].attempts == 4
    assert listed["oom"][1].remedy.startswith("give it more: `set-resources: oom: mem_mb: 4000`")


def test_failures_before_a_complete_run_are_past(folder: Path) -> None:
    lay_out(folder, "workstation")
    write_run(STARTED + 3840, exit=0).rename(FOLDER / "2026-11-21T160000.json")
    problems, failed = look()
    assert told(problems, failed) == ["Nothing failed."]


def test_without_slurm(folder: Path) -> None:
    lay_out(folder, "workstation")
    causes = {job.rule: cause for job, cause in look()[1]}
    assert {rule: cause.kind for rule, cause in causes.items()} == {
        "killed": "killed",
        "value": "input",
        "memory": "memory",
    }
    assert "killed by SIGKILL" in causes["killed"].what
    assert "--cores 1" in causes["killed"].remedy
    assert "--cores 1" in causes["memory"].remedy


@pytest.mark.parametrize("damage", ["records", "slurm_logs", "half_run", "no_run"])
def test_damaged_folders(folder: Path, damage: str) -> None:
    lay_out(folder, "cluster")
    record = next(FOLDER.iterdir())
    if damage == "records":
        for path in Path("results/jobs").rglob("*.json"):
            path.write_text(path.read_text()[:100])
    elif damage == "slurm_logs":
        shutil.rmtree(".snakemake/slurm_logs")
    elif damage == "half_run":
        record.write_bytes(record.read_bytes()[: record.stat().st_size // 2] + b"\xff\xfe")
    else:
        record.unlink()
    _, failed = look()
    assert failed
    assert all(cause.what and cause.remedy for _, cause in failed)
    if damage == "records":  # SLURM's logs alone still tell these
        kinds = {job.rule: cause.kind for job, cause in failed}
        assert kinds["oom"] == "memory"
        assert kinds["value"] == "input"
        assert kinds["time"] == "time"


def test_an_empty_folder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert report(as_json=False)
    assert capsys.readouterr().out == "No run has left anything here yet.\n"
    assert not list(folder.iterdir())


def test_foreign_text_is_no_command_to_a_terminal(folder: Path) -> None:
    lay_out(folder, "workstation")
    record = next(Path("results/jobs/value").glob("*.json"))
    fields = json.loads(record.read_text())
    fields["error"]["text"] = "no label \x1b[2J\u202eab\nc"
    record.write_text(json.dumps(fields))
    (line,) = [line for line in told(*look()) if line.startswith("value")]
    assert "no label ?[2J?ab c -> " in line


def test_of_many_jobs_the_first_are_listed(folder: Path) -> None:
    error = {"kind": "ValueError", "text": "no such relation", "place": ""}
    for i in range(why.LISTED + 5):
        write_job("edit", f"{i:05d}", state="failed", error=error)
    lines = told(*look())
    assert len(lines) == why.LISTED + 2
    assert lines[-1] == "and 5 more: `aftershock why --json` lists them"


def test_each_log_of_many_failed_jobs_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of two thousand failed on a cluster, with a log of SLURM each."""
    read: Counter[Path] = Counter()
    tail = why._tail

    def counted(path: Path) -> str:
        read[path] += 1
        return tail(path)

    monkeypatch.setattr(why, "_tail", counted)
    fields = json.loads((FAULTS / "cluster/jobs/killed/00000-00031.json").read_text())
    fields.pop("rule")
    slurm_log = (FAULTS / "cluster/slurm_logs/rule_oom/00000-00031/19.log").read_text()
    failures = []
    for i in range(2000):
        logs = Path(f".snakemake/slurm_logs/rule_edit/{i}")
        logs.mkdir(parents=True)
        (logs / f"{i}.log").write_text(slurm_log)
        log = f"results/logs/edit/{i}.log"
        write_job("edit", str(i), **fields | {"log": log, "slurm_job": str(i)})
        noted = {"message": f"SLURM-job '{i}' failed.", "slurm_job": str(i)}
        failures.append(failure("edit", str(i), RECORDED, **noted))
    write_run(failures=failures, exit=1)
    problems, failed = look()
    assert set(read.values()) == {1}
    assert len(read) == 2 * 2000  # SLURM's and the rule's
    assert {cause.kind for _, cause in failed} == {"memory"}
    assert len(failed) == 2000
    assert not problems


# --- runs as a whole --------------------------------------------------------------------------------------


def test_a_failed_start_after_an_earlier_run_is_told_of(folder: Path) -> None:
    lay_out(folder, "workstation")
    assert not look()[0]
    RunRecord([]).end(1, "KeyError: 'b'")
    (line,) = look()[0]
    assert line.startswith("started at ")
    assert line.endswith("stopped before its first job: KeyError: 'b' -> put right what it names")


def test_a_run_that_was_killed(folder: Path) -> None:
    write_run(**BEGUN)
    write_job("hold", JOB, pid=2**22 - 1, seconds=20.0)
    problems, failed = look()
    assert problems == ["its Snakemake was killed after 2026-11-21 15:02 -> `aftershock resume` goes on"]
    assert [cause.what for _, cause in failed] == ["ended after 20 s as its run was killed"]


def test_a_run_that_its_user_ended(folder: Path) -> None:
    write_run(**BEGUN, stopped=True, exit=1)
    assert look()[0] == ["ended by its user at 2026-11-21 15:02 -> `aftershock resume` goes on"]


def test_a_job_that_a_run_tries_again_is_no_failure(folder: Path) -> None:
    failures = [failure("hold", JOB, time.time())]
    write_job("hold", JOB, state="failed")
    write_run(time.time(), os.getpid(), active=[f"results/jobs/hold/{JOB}.json"], failures=failures)
    assert told(*look()) == ["Nothing failed."]
    write_run(time.time(), exit=1)
    assert [job.rule for job, _ in look()[1]] == ["hold"]
