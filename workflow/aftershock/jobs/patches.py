"""Changes of Snakemake in the running process that no setting offers, for Snakemake 9.27.

Each has a test that says when it is no longer needed, in tests/test_patches.py and tests/test_runs.py.
"""

import gc
import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from aftershock.jobs.forking import kind_of_server, run_forked
from aftershock.jobs.record import params_hash, record_path

TIMESTAMP = ".snakemake_timestamp"
SAME_SECONDS = 1.0
THREADED = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")
FILES = 1 << 16  # whose rules are kept


def patch_snakemake(fork: bool = False) -> None:
    """Make all changes below, once for each process; with `fork` also that jobs are forked."""
    from snakemake.dag import DAG
    from snakemake.jobs import Job
    from snakemake.script import PythonScript

    if not hasattr(Job, "aftershock"):
        Job.aftershock = True
        run_scripts(PythonScript, fork)
        keep_outputs(Job)
        keep_folder_dates(DAG)


def run_scripts(script_class: Any, fork: bool) -> None:
    """Fork the processes of scripts that load large libraries, and quote the interpreter's path for others.

    Snakemake starts a new interpreter for each, whose path it leaves bare in a shell command. No script is
    forked where an environment or a container of the job's own has the interpreter, nor where a benchmark
    follows the process that the shell starts. A rule's resource `process_threads` is the number of threads of
    each process of a job that starts several.
    """
    run = script_class._execute_cmd

    def execute(self: Any, command: str, **names: Any) -> Any:
        if "py_exec" not in names:
            return run(self, command, **names)
        own = (self.conda_env, self.container_img, self.env_modules, self.bench_record)
        forks = fork and own == (None,) * len(own) and self.is_local
        if forks and (kind := kind_of_server(self.local_path)):
            self.threads = self.resources.get("process_threads", self.threads)
            code = run_forked(kind, names["fname"], environment_of(self))
            if code:
                raise subprocess.CalledProcessError(code, [names["py_exec"], names["fname"]])
            if code == 0:
                return None
        return run(self, command, **names | {"py_exec": shlex.quote(names["py_exec"])})

    script_class._execute_cmd = execute


def environment_of(script: Any) -> dict[str, str]:
    """The environment that Snakemake gives the process of a script, see `snakemake.shell`."""
    folder = script.resources.get("tmpdir")
    return {
        **os.environ,
        **dict.fromkeys((f"{library}_NUM_THREADS" for library in THREADED), str(script.threads)),
        "VECLIB_MAXIMUM_THREADS": str(script.threads),
        **(dict.fromkeys(("TMPDIR", "TMP", "TEMPDIR", "TEMP"), folder) if folder else {}),
    }


def keep_outputs(job_class: Any) -> None:
    """Leave outputs where they are until the job that makes them anew moves others into their place.

    Snakemake removes them before a job starts and after it has failed, and notes a failed job's parameters as
    those of its outputs. Stages write whole files or none, so nothing has to be removed; the outputs of a
    failed job stay marked as incomplete, and are made again in the next run.
    """
    postprocess = job_class.postprocess

    async def remove_logs(self: Any) -> None:
        for file in self.log:
            await file.remove(remove_non_empty_dir=False)

    async def leave_failed(self: Any, *args: Any, error: bool = False, **options: Any) -> None:
        if not error:
            await postprocess(self, *args, error=error, **options)

    job_class.remove_existing_output = remove_logs
    job_class.postprocess = leave_failed


def keep_folder_dates(dag_class: Any) -> None:
    """Date a folder that was copied without its date as Snakemake noted it when the folder was made.

    Snakemake compares the content of files, but of folders only the date of a file that it leaves in them.
    """
    check_incomplete = dag_class.check_incomplete

    async def check(dag: Any) -> None:
        for job in dag.jobs:
            for output in job.output:
                if output.is_directory:
                    _restore_date(dag, output)
        await check_incomplete(dag)

    dag_class.check_incomplete = check


def _restore_date(dag: Any, folder: Any) -> None:
    record, file = dag.workflow.persistence.metadata(folder), Path(folder, TIMESTAMP)
    if record is None or not record.endtime or not file.is_file():
        return
    if file.stat().st_mtime > record.endtime + SAME_SECONDS and os.access(file, os.W_OK):
        os.utime(file, (record.endtime, record.endtime))
        dag.workflow.iocache.mtime.pop(folder, None)


def plan_faster() -> None:
    """Keep the rules of files that jobs read, and collect garbage less often, which results do not depend on.

    Snakemake looks up the rule of a file once for each job that reads it, and its jobs live until the end, so
    that looking for garbage among them finds nothing.
    """
    from snakemake.output_index import OutputIndex

    gc.set_threshold(200_000, 50, 100)
    if not hasattr(OutputIndex.match_producers, "cache_info"):
        OutputIndex.match_producers = lru_cache(maxsize=FILES)(OutputIndex.match_producers)


def adopt_finished() -> None:
    """Have Snakemake check outputs that jobs finished after their run was killed.

    Its own record of an output, which tells it later that parameters or code have changed, is written by the
    run and not by the job. An output that a SLURM job finishes after its run has died has none, or an old
    one, and would be reused although parameters have changed. So every run looks at such outputs: those that
    are newer than their inputs, and whose job's own record has the parameters of today, are noted for
    Snakemake; all others are made again.
    """
    from snakemake.dag import DAG

    check_incomplete = DAG.check_incomplete

    async def check(dag: Any) -> None:
        await check_incomplete(dag)
        await _adopt(dag)

    DAG.check_incomplete = check


async def _adopt(dag: Any) -> None:
    """Adopt outputs before Snakemake decides which jobs to run; `forcefiles` are always made again."""
    known, other = 0, []
    for job in dag.jobs:
        if any(f in dag.forcefiles for f in job.output) or not await _is_unrecorded(dag, job):
            continue
        if _made_from(job) == params_hash(dict(job.params.items())) and await _is_newest(job):
            await dag.workflow.persistence.finished(job)
            known += 1
        else:
            dag.forcefiles.update(job.output)
            other.append(str(job.output[0]))
    if known:
        print(f"Taken over from jobs that ended without their run: {known}.", file=sys.stderr)
    if other:
        print(
            f"Made again, as what made them has changed or is not known: {len(other)}, such as {other[0]}.",
            file=sys.stderr,
        )


async def _is_newest(job: Any) -> bool:
    """True if the outputs are newer than all inputs, which exist."""
    made = min([(await f.mtime()).local_or_storage() for f in job.output])
    return all([await f.exists() and not await f.is_newer(made) for f in job.input])


async def _is_unrecorded(dag: Any, job: Any) -> bool:
    """True if all outputs exist, and one was made after Snakemake last recorded it."""
    if not job.output or not all([await f.exists() for f in job.output]):
        return False
    records = [dag.workflow.persistence.metadata(f) for f in job.output]
    if None in records:
        return True
    made = [(await f.mtime()).local_or_storage() for f in job.output]
    later = any(m > r.endtime + SAME_SECONDS for m, r in zip(made, records, strict=True) if r.endtime)
    return later and _made_from(job) is not None


def _made_from(job: Any) -> str | None:
    """The hash of the parameters of the job that last made an output; None when unknown."""
    path = record_path(job.rule.name, job.wildcards_dict)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return record.get("params") if record["state"] == "done" else None


def survive_outages(executor: Any) -> None:
    """Make a class of executors ask again about jobs that it would forget.

    When SLURM gives no answer in a round of questions, snakemake-executor-plugin-slurm (2.8.0) neither
    reports its jobs nor keeps them, and the run waits for ever.
    """
    check_active_jobs = executor.check_active_jobs
    told: set[int] = set()  # those that were reported or kept in a round

    def noting(report: Any) -> Any:
        def note(self: Any, job: Any, *arguments: Any, **named: Any) -> Any:
            told.add(id(job))
            return report(self, job, *arguments, **named)

        return note

    async def check(self: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        told.clear()
        async for job in check_active_jobs(self, active_jobs):
            told.add(id(job))
            yield job
        for job in active_jobs:
            if id(job) not in told:
                yield job

    for name in ("report_job_success", "report_job_error"):
        setattr(executor, name, noting(getattr(executor, name)))
    executor.check_active_jobs = check
