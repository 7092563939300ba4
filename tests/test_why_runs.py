"""Output of `aftershock why` on runs as a whole: killed, ended, stopped before their first job."""

import json
import os
from pathlib import Path

from aftershock.jobs.why import look
from recorded_faults import BEGUN, FAULTS, JOB, STARTED, write_run

pytest_plugins = ("fault_fixtures",)


def test_outputs_that_do_not_show(folder: Path) -> None:
    message = 'MissingOutputException in rule hold in file "/study/Snakefile", line 10:'
    missed = {"event": "failed", "at": STARTED + 414, "rule": "hold", "message": message}
    write_run(
        *BEGUN, missed | {"outputs": ["results/hold/toy.txt"]}, {"event": "ended", "code": 1, "text": ""}
    )
    fields = json.loads((FAULTS / "workstation/jobs/done/00000-00031.json").read_text())
    fields |= {"rule": "hold", "log": "results/logs/hold/toy.log", "outputs": ["results/hold/toy.txt"]}
    Path("results/jobs/hold").mkdir(parents=True)
    Path("results/jobs/hold/a.json").write_text(json.dumps(fields | {"started": 1795273370.0}))
    ((job, cause),) = look().failed
    assert (job.rule, job.log, cause.kind) == ("hold", "results/logs/hold/toy.log", "missing output")
    Path("results/hold").mkdir()
    Path("results/hold/toy.txt").write_text("")  # it came later
    assert look().good


def test_a_run_that_was_killed(folder: Path) -> None:
    write_run(*BEGUN)
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
    assert found.run == ["its Snakemake was killed after 2026-11-21 15:02 -> `aftershock resume` goes on"]
    assert [cause.what for _, cause in found.failed] == ["ended after 20 s as its run was killed"]


def test_a_run_that_its_user_ended(folder: Path) -> None:
    write_run(
        *BEGUN,
        {"event": "stopped", "at": STARTED + 415},
        {"event": "ended", "at": STARTED + 416, "code": 1, "text": ""},
    )
    assert look().run == ["ended by its user at 2026-11-21 15:02 -> `aftershock resume` goes on"]
