"""Jobs of a local run that are forked from a process which has imported their libraries already.

Importing them takes most of the processor time of a small job. A fork server of multiprocessing imports them
once and forks itself for each job; there is one for jobs with a model, and one for others. What cannot be
forked starts in the ordinary way. A server imports nothing of ours: a job runs the code on the disk.
"""

import atexit
import gc
import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing import Process
from multiprocessing.forkserver import ForkServer, read_signed
from multiprocessing.reduction import dump

from aftershock.project import PACKAGE

SHARED = ("jinja2", "jsonschema", "pandas", "psutil", "pyarrow.parquet", "scipy.special", "yaml")
IMPORTED = {
    "models": (
        *(*SHARED, "pydantic", "safetensors.torch", "torch", "transformers.modeling_utils"),
        *("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
        "transformers.models.gpt2.modeling_gpt2",
    ),
    "tables": (
        *(*SHARED, "SPARQLWrapper", "fontTools.subset", "matplotlib.figure"),
        *(f"matplotlib.backends.backend_{form}" for form in ("agg", "pdf", "svg")),
    ),
}
"""Modules that most jobs import whose rule has this environment of envs/; none starts a thread or opens a
GPU, which rule out a fork.
"""
THREADS = [f"{library}_NUM_THREADS" for library in ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")]
THREADS += ["VECLIB_MAXIMUM_THREADS"]
"""Variables that libraries read when they are imported; Snakemake sets them for every job."""

_servers = {kind: ForkServer() for kind in IMPORTED}


def set_environment() -> None:
    """Set what a server reads while it is started, as Snakemake sets it for jobs of one thread."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {**dict.fromkeys(THREADS, "1"), "PYTHONPATH": os.pathsep.join(paths)}


def run_forked(kind: str, script: str, environment: Mapping[str, str]) -> int | None:
    """Run a script in a forked process, with changes of this process's environment.

    Its exit code comes back, None where it has to be started otherwise.
    """
    begun = False
    _servers[kind].set_forkserver_preload([*IMPORTED[kind]])
    try:
        answers, to_job = _servers[kind].connect_to_new_process([])
        with open(answers, "rb"), open(to_job, "wb") as job:
            begun = bool(read_signed(answers))  # the number of the process
            dump({}, job)
            dump(_Job(os.path.abspath(script), environment), job)
            job.flush()
            return read_signed(answers)
    except (OSError, EOFError):
        if begun:
            print("The process that forked this job has ended, and the job with it.", file=sys.stderr)
        return 1 if begun else None


class _Job(Process):
    def __init__(self, script: str, environment: Mapping[str, str]) -> None:
        super().__init__()
        self.script, self.environment = script, dict(environment)

    def __reduce__(self) -> tuple[type, tuple[str, dict[str, str]]]:
        return _Job, (self.script, self.environment)

    def run(self) -> None:
        """Be an interpreter that was started with the script."""
        gc.freeze()  # memory that no collection touches stays shared
        os.environ |= self.environment
        sys.argv, sys.path[0] = [self.script], os.path.dirname(self.script)
        sys.modules["numpy"].random.seed()  # Python's own generator sees to that itself
        try:
            runpy.run_path(self.script, run_name="__main__")
        except Exception:
            sys.excepthook(*sys.exc_info())  # as a stage has set it
            sys.exit(1)
        finally:
            atexit._run_exitfuncs()
