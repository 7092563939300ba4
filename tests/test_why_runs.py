"""Output of `aftershock why` on runs as a whole: killed, ended, stopped before their first job."""

import json
import os
from pathlib import Path

from aftershock.jobs.why import look
from recorded_faults import BEGUN, FAULTS, JOB, log

pytest_plugins = ("fault_fixtures",)


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
    assert found.run == ["its Snakemake was killed after 2026-11-21 15:02 -> `aftershock resume` goes on"]
    assert [cause.what for _, cause in found.failed] == ["ended after 20 s as its run was killed"]


def test_a_run_that_its_user_ended(folder: Path) -> None:
    log(folder, BEGUN + "Terminating processes on user request, this might take some time.\n")
    assert look().run == ["ended by its user at 2026-11-21 15:02 -> `aftershock resume` goes on"]


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
