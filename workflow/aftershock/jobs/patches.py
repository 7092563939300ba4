"""Changes of Snakemake in the running process that no setting offers, for Snakemake 9.27.

Each has a test in tests/test_patches.py that says when it is no longer needed.
"""

import os
import shlex
from pathlib import Path
from typing import Any

from aftershock.jobs.forking import forking_interpreter, kind_of_server

TIMESTAMP = ".snakemake_timestamp"
SAME_SECONDS = 1.0


def patch_snakemake(fork: bool = False) -> None:
    """Make all changes below, once for each process; with `fork` also that jobs are forked."""
    from snakemake.dag import DAG
    from snakemake.jobs import Job
    from snakemake.script import PythonScript

    if not hasattr(Job, "aftershock"):
        Job.aftershock = True
        if fork:
            fork_scripts(PythonScript)
        quote_interpreter(PythonScript)
        keep_outputs(Job)
        keep_folder_dates(DAG)


def quote_interpreter(script_class: Any) -> None:
    """Quote the path of the interpreter in the shell command that runs a script; Snakemake leaves it bare."""
    run = script_class._execute_cmd

    def execute(self: Any, command: str, **names: Any) -> Any:
        if "py_exec" in names:
            names["py_exec"] = shlex.quote(names["py_exec"])
        return run(self, command, **names)

    script_class._execute_cmd = execute


def fork_scripts(script_class: Any) -> None:
    """Fork the processes of scripts that load large libraries, see `jobs.forking`.

    Snakemake starts a new interpreter for each. That stays so where an environment or a container of the
    job's own has the interpreter, and where a benchmark follows the process that the shell starts. A rule's
    resource `process_threads` is the number of threads of each process of a job that starts several.
    """
    run = script_class._execute_cmd

    def execute(self: Any, command: str, **names: Any) -> Any:
        own = (self.conda_env, self.container_img, self.env_modules, self.bench_record)
        forks = "py_exec" in names and own == (None,) * len(own) and self.is_local
        if forks and (kind := kind_of_server(self.local_path)):
            self.threads = self.resources.get("process_threads", self.threads)
            names["py_exec"] = forking_interpreter(names["py_exec"], kind, self.threads)
        return run(self, command, **names)

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
