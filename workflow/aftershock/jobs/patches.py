"""Changes of Snakemake in the running process that no setting offers, for Snakemake 9.27.

Each has a test that says when it is no longer needed, in tests/test_patches.py and tests/test_runs.py.
"""

import gc
import os
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aftershock.jobs.forking import IMPORTED, run_forked, set_environment
from aftershock.jobs.record import params_hash, read_record, record_path
from aftershock.jobs.slurm import PROGRAMS

TIMESTAMP = ".snakemake_timestamp"
SAME_SECONDS = 1.0
FOLDERS = ("TMPDIR", "TMP", "TEMPDIR", "TEMP")  # in which Snakemake names a job's temporary folder


def patch_snakemake(workflow: Any = None) -> None:
    """Make all changes below, once for each process; with a workflow also that its jobs are forked."""
    from snakemake.dag import DAG
    from snakemake.jobs import Job
    from snakemake.script import PythonScript

    if not hasattr(Job, "aftershock"):
        Job.aftershock = True
        run_scripts(PythonScript, workflow)
        keep_outputs(Job)
        keep_folder_dates(DAG)
        gc.set_threshold(200_000, 50, 100)  # its jobs live until the end: little is garbage among them


def run_scripts(script_class: Any, workflow: Any) -> None:
    """Fork the processes of scripts that load large libraries, and quote the interpreter's path for others.

    Snakemake starts a new interpreter for each, whose path it leaves bare in a shell command. A rule's
    `conda:` names the libraries of its script. None is forked where an environment or a container of the
    job's own has the interpreter, where a benchmark follows the process that the shell starts, or for several
    threads. A rule's resource `process_threads` is the number of threads of each process of a job.
    """
    run = script_class._execute_cmd
    if fork := workflow is not None and sys.platform == "linux":
        set_environment()

    @cache
    def environment_of(script: str) -> str:
        rules = (rule for rule in workflow.rules if rule.script and rule.conda_env)
        same = (rule for rule in rules if Path(str(rule.script)).name == Path(script).name)
        return next((Path(str(rule.conda_env)).stem for rule in same), "")

    def execute(self: Any, command: str, **names: Any) -> Any:
        if "py_exec" not in names:
            return run(self, command, **names)
        self.threads = self.resources.get("process_threads", self.threads)
        own = (self.conda_env, self.container_img, self.env_modules, self.bench_record)
        forks = fork and not any(own) and self.is_local and self.threads == 1
        if forks and (kind := environment_of(self.local_path)) in IMPORTED:
            folder = self.resources.get("tmpdir")
            code = run_forked(kind, names["fname"], dict.fromkeys(FOLDERS, folder) if folder else {})
            if code:
                raise subprocess.CalledProcessError(code, [names["py_exec"], names["fname"]])
            if code == 0:
                return None
        return run(self, command, **names | {"py_exec": shlex.quote(names["py_exec"])})

    script_class._execute_cmd = execute


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
        for folder in (output for job in dag.jobs for output in job.output if output.is_directory):
            record, file = dag.workflow.persistence.metadata(folder), Path(folder, TIMESTAMP)
            made = record.endtime if record and file.is_file() and os.access(file, os.W_OK) else None
            if made and file.stat().st_mtime > made + SAME_SECONDS:
                os.utime(file, (made, made))
                dag.workflow.iocache.mtime.pop(folder, None)
        await check_incomplete(dag)

    dag_class.check_incomplete = check


def adopt_finished() -> None:
    """Have Snakemake check outputs that jobs finished after their run was killed.

    Its record of an output is written by the run and not by the job, and tells it later that parameters or
    code have changed: without one, or with an old one, an output would be reused whatever has changed. Those
    that are newer than their inputs, and whose job's own record has the parameters of today, are noted for
    Snakemake; all others are made again.
    """
    from snakemake.dag import DAG

    check_incomplete = DAG.check_incomplete

    async def check(dag: Any) -> None:
        await check_incomplete(dag)
        known, other = [], []
        for job in dag.jobs:
            own = read_record(record_path(job.rule.name, job.wildcards_dict))
            made_from = own.get("params") if own.get("state") == "done" else None
            if dag.forcefiles & set(job.output) or not await _is_unrecorded(dag, job, made_from):
                continue
            if made_from == params_hash(dict(job.params.items())) and await _is_newest(job):
                await dag.workflow.persistence.finished(job)
                known.append(job)
            else:
                dag.forcefiles.update(job.output)
                other.append(job.output[0])
        if known:
            print(f"Taken over from jobs that ended without their run: {len(known)}.", file=sys.stderr)
        if other:
            changed = f"{len(other)}, such as {other[0]}"
            print(f"Made again, as what made them has changed or is not known: {changed}.", file=sys.stderr)

    DAG.check_incomplete = check


async def _is_newest(job: Any) -> bool:
    """True if the outputs are newer than all inputs, which exist."""
    made = min([(await f.mtime()).local_or_storage() for f in job.output])
    return all([await f.exists() and not await f.is_newer(made) for f in job.input])


async def _is_unrecorded(dag: Any, job: Any, made_from: str | None) -> bool:
    """True if all outputs exist, and one was made after Snakemake last recorded it."""
    if not job.output or not all([await f.exists() for f in job.output]):
        return False
    for f in job.output:
        record, made = dag.workflow.persistence.metadata(f), (await f.mtime()).local_or_storage()
        if record is None or record.endtime and made > record.endtime + SAME_SECONDS and made_from:
            return True
    return False


def without_slurm() -> Any:
    """Return a context in which SLURM is not found: the executor plugin would ask it while it is loaded."""
    which: Any = shutil.which

    def find(name: str, *more: Any, **options: Any) -> str | None:
        return None if name in PROGRAMS else which(name, *more, **options)

    return patch.object(shutil, "which", find)


def ask_slurm_again(plugin: Any, program: str) -> None:
    """Make the executor plugin ask `program` alone, and again about jobs of which it gave no account.

    In snakemake-executor-plugin-slurm (2.8.0) a round of questions without an answer ends with its jobs
    forgotten, and the run waits for ever. So it does where the plugin prefers accounting, which is off, since
    SLURM forgets ended jobs early.
    """
    query = plugin.query_job_status

    async def ask(*arguments: Any) -> tuple[dict[str, str], float]:
        states, seconds = await query(*arguments)
        return states or {}, seconds or 0.0

    plugin.query_job_status = ask
    plugin.is_query_tool_available = lambda tool: tool == program
