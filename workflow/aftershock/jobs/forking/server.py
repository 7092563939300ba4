"""The fork server: `python server.py LISTENER KIND`, the number of an open socket and a key of LIBRARIES.

It ends when its input ends.

The first job brings the environment that the libraries are imported in, since some of them read it at that
moment; a job with another one is turned away. The server computes nothing and starts no thread, so that a
forked process is as good as a new one. It imports no module of Aftershock: jobs take these from the disk.
"""

import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

STARTED = b"+"
STANDARD_FILES = (0, 1, 2)
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


def end_with_parent(parent: int) -> None:
    """Let this process be killed when its parent ends; that counts until its stage watches more."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Read a job and its standard files; no job where the client has ended meanwhile."""
    try:
        length, files, *_ = socket.recv_fds(connection, 8, len(STANDARD_FILES))
        text = connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
        return json.loads(text), files
    except (ConnectionError, ValueError):
        return None, []


class Server:
    """Jobs that are running, each a forked process with a connection to its client."""

    def __init__(self, listener: socket.socket, kind: str) -> None:
        self.listener, self.kind = listener, kind
        self.environment: dict[str, str] | None = None  # of all jobs, once the first has come
        self.clients: dict[int, socket.socket] = {}  # by process id
        self.selector = selectors.PollSelector()
        self.woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        for file in (sys.stdin, listener, self.woken):
            self.selector.register(file, selectors.EVENT_READ)

    def serve(self) -> str | None:
        """Fork a process for each job; returns the script in that process, None when the input has ended."""
        self._interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Snakemake says when all is over
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno())
        while True:
            for key, _ in self.selector.select():
                file: Any = key.fileobj
                if file is sys.stdin:
                    with suppress(OSError):
                        os.unlink(self.listener.getsockname())
                    return None
                if file is self.woken:
                    self.woken.recv(4096)
                    self._report_ended()
                elif file is self.listener:
                    if script := self._accept():
                        return script
                elif key.data in self.clients:  # else it has just been told how its job ended
                    self._pass_on(file, key.data)

    def _accept(self) -> str | None:
        """Take a job from a client and fork; returns the script in the forked process."""
        connection, _ = self.listener.accept()
        job, files = _receive(connection)
        try:
            if not job or not self._takes(job["environment"]):
                connection.close()
                return None
            me, pid = os.getpid(), os.fork()
            if not pid:
                end_with_parent(me)
                connection.close()
                self._become(job, files)
                return job["script"]
        finally:
            for file in files:
                os.close(file)
        self.clients[pid] = connection
        self.selector.register(connection, selectors.EVENT_READ, pid)
        with suppress(ConnectionError):
            connection.sendall(STARTED)
        return None

    def _takes(self, environment: dict[str, str]) -> bool:
        """True for jobs with the environment of the first, in which the libraries are then imported."""
        if self.environment is None:
            self.environment = environment
            os.environ.clear()
            os.environ.update(environment)
            import_libraries(self.kind)
        return environment == self.environment

    def _become(self, job: dict[str, Any], files: list[int]) -> None:
        """Make this process what the interpreter would be that a shell starts for the job."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, self._interrupt)
        for inherited in (self.listener, self.woken, self._waker, *self.clients.values()):
            inherited.close()
        for number, file in zip(STANDARD_FILES, files, strict=True):
            os.dup2(file, number)
        os.chdir(job["folder"])
        sys.argv = [job["script"]]
        sys.path.insert(0, os.path.dirname(job["script"]))
        sys.modules["numpy"].random.seed()  # Python's own generator sees to that itself

    def _pass_on(self, connection: socket.socket, pid: int) -> None:
        """Send a job the signal that its client was sent; one whose client is gone is killed."""
        with suppress(ConnectionError):
            if number := connection.recv(1):
                os.kill(pid, number[0])
                return
        self.selector.unregister(connection)
        os.kill(pid, signal.SIGKILL)

    def _report_ended(self) -> None:
        """Tell clients how their jobs have ended."""
        while self.clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            with self.clients.pop(pid) as connection, suppress(ConnectionError):
                with suppress(KeyError):
                    self.selector.unregister(connection)
                connection.sendall(code.to_bytes(2, "big", signed=True))


def serve_jobs(listener: int, kind: str) -> None:
    """Be the server, and in each forked process the script of its job."""
    if script := Server(socket.socket(fileno=listener), kind).serve():
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    serve_jobs(int(sys.argv[1]), sys.argv[2])
