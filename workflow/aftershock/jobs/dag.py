"""All jobs of a study as Snakemake plans them; as JSON by `python -m aftershock.jobs.dag CONFIG ...`.

In a process of its own, as a workflow is read once in a process. Files that the study reads may be missing.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aftershock.project import PACKAGE, SNAKEFILE


class Job(NamedTuple):
    """A job of a study."""

    rule: str
    wildcards: Mapping[str, str]
    after: Sequence[int] = ()  # indices of the jobs that it waits for
    runs: bool = True  # false where its outputs are there and up to date


def planned_jobs(files: Sequence[str]) -> list[Job]:
    """All jobs of a study, each after those that it waits for; ValueError with Snakemake's reason.

    files: its configuration files over that of the project; the last wins.
    """
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-m", "aftershock.jobs.dag", *files]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if found.returncode:
        text = [line for line in (found.stdout + found.stderr).splitlines() if line.strip()]
        raise ValueError("Snakemake cannot plan the study: " + " ".join(text[-4:]))
    return [Job(*job) for job in json.loads(found.stdout.splitlines()[-1])]


def longest_chain(jobs: Sequence[Job], seconds: Iterable[float]) -> float:
    """Seconds of the longest chain of jobs that wait for each other: no number of devices ends sooner."""
    ends: list[float] = []
    for job, own in zip(jobs, seconds, strict=True):
        ends.append(own + max((ends[i] for i in job.after), default=0.0))
    return max(ends, default=0.0)


def _plan(files: Sequence[str]) -> Iterator[Job]:
    from snakemake.api import ExecMode, SnakemakeApi
    from snakemake.settings import types

    with SnakemakeApi(types.OutputSettings(quiet={types.Quietness.ALL})) as api:
        study = api.workflow(
            resource_settings=types.ResourceSettings(cores=1),
            config_settings=types.ConfigSettings(configfiles=[Path(file).resolve() for file in files]),
            # as in a job's process, where nobody minds that files are missing
            workflow_settings=types.WorkflowSettings(exec_mode=ExecMode.SUBPROCESS),
            snakefile=SNAKEFILE,
        )
        study.dag(types.DAGSettings())
        workflow = study._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        dag, numbers = workflow.dag, dict[object, int]()
        for level in dag.toposorted():
            for job in sorted(level, key=lambda job: (job.rule.name, *job.wildcards)):
                numbers[job] = len(numbers)
                after = sorted(numbers[before] for before in dag.dependencies[job])
                yield Job(job.rule.name, dict(job.wildcards_dict), after, dag.needrun(job))


if __name__ == "__main__":
    print(json.dumps(list(_plan(sys.argv[1:]))))
