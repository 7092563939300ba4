"""The fork server: `python server.py SOCKET KIND`, the number of an open socket and a key of LIBRARIES.

It ends with the process at the other end of the socket.

The first job brings the environment that the libraries are imported in, since some of them read it at that
moment; a job with another one is turned away. The server computes nothing and starts no thread, so that a
forked process is as good as a new one. It imports no module of Aftershock: jobs take these from the disk.
"""

import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module

PR_SET_PDEATHSIG = 1
GPU_FILES = "/dev/nvidia"
FOR_ALL = ("jinja2", "jsonschema", "numpy", "pandas", "psutil", "pyarrow.parquet", "scipy.special", "yaml")
LIBRARIES = {
    "models": (
        *FOR_ALL,
        *("pydantic", "safetensors.torch", "torch"),
        *("transformers.modeling_utils", "transformers.models.auto.modeling_auto"),
        *("transformers.models.auto.tokenization_auto", "transformers.models.gpt2.modeling_gpt2"),
    ),
    "tables": (
        *FOR_ALL,
        *("SPARQLWrapper", "fontTools.subset", "matplotlib.figure"),
        *(f"matplotlib.backends.backend_{kind}" for kind in ("agg", "pdf", "svg")),
    ),
}
"""Modules that most jobs with a model import, and those without."""


def import_libraries(kind: str) -> None:
    """Import LIBRARIES of a kind; RuntimeError when a process must not fork afterwards."""
    for name in LIBRARIES[kind]:
        import_module(name)
    if kind == "models":
        _know_conversions()
    if threading.active_count() > 1 or _holds_gpu():
        raise RuntimeError("importing the libraries started a thread or opened a GPU: jobs cannot be forked")
    gc.collect()
    gc.freeze()  # memory that no collection touches stays shared


def _know_conversions() -> None:
    """Have transformers make its table of renamed weights, some thousand patterns that every load looks up.

    It keeps the table (seen in 5.10). A version without this function makes what it needs in each job.
    """
    with suppress(ImportError, AttributeError):
        import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("gpt2")


def _holds_gpu() -> bool:
    """True once CUDA has started in this process, which no forked process could use."""
    files = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return any(os.readlink(file).startswith(GPU_FILES) for file in files if os.path.lexists(file))


def serve(control: socket.socket, kind: str) -> str | None:
    """Fork a process for each job; return the script in that process, None when the run has ended.

    Of each job comes a connection, on which it is described. It is answered with a line once the job has
    begun, and another one with its exit code. A job with another environment than the first, in which the
    libraries are imported, gets no answer.
    """
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run says when all is over
    environment: dict[str, str] | None = None
    jobs: dict[int, tuple[int, socket.socket]] = {}  # process and connection by the process's descriptor
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for file, _ in poll.poll():
            if file in jobs:
                pid, connection = jobs.pop(file)
                poll.unregister(file)
                os.close(file)
                _, status = os.waitpid(pid, 0)
                _answer(connection, str(os.waitstatus_to_exitcode(status)))
                connection.close()
                continue
            _, files, *_ = socket.recv_fds(control, 1, 1)
            if not files:
                return None
            connection = socket.socket(fileno=files[0])
            with connection.makefile("r") as text:
                job = json.load(text)
            if environment is None:
                environment = job["environment"]
                os.environ.clear()
                os.environ.update(job["environment"])
                import_libraries(kind)
            if job["environment"] != environment:
                connection.close()
                continue
            me, pid = os.getpid(), os.fork()
            if not pid:
                signal.signal(signal.SIGINT, interrupt)
                end_with_parent(me)
                for inherited in (control, connection, *(each for _, each in jobs.values())):
                    inherited.close()
                for inherited_file in jobs:
                    os.close(inherited_file)
                return job["script"]
            file = os.pidfd_open(pid)
            jobs[file] = pid, connection
            poll.register(file, select.POLLIN)
            _answer(connection, "begun")


def end_with_parent(parent: int) -> None:
    """Let this process be killed when its parent ends; that counts until its stage watches more."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _answer(connection: socket.socket, line: str) -> None:
    with suppress(ConnectionError):  # the run has just ended
        connection.sendall(f"{line}\n".encode())


def serve_jobs(control: int, kind: str) -> None:
    """Be the server, and in each forked process the script of its job, as in a new interpreter."""
    if script := serve(socket.socket(fileno=control), kind):
        sys.argv = [script]
        sys.path.insert(0, os.path.dirname(script))
        sys.modules["numpy"].random.seed()  # Python's own generator sees to that itself
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    serve_jobs(int(sys.argv[1]), sys.argv[2])
