"""Jobs of a local run that are forked from one process which has imported torch and transformers already.

Importing them takes most of the processor time of a small job with a model. `server` imports them once and
forks itself for each job; `client` takes the place of the interpreter in the command that Snakemake starts,
and hands the server the script together with its environment, folder and standard files. Whatever goes wrong
before the job has begun, the client starts it in the ordinary way.

Only scripts that import all of LIBRARIES themselves are forked: a stage notes the versions and seeds the
generators of the libraries that are there. No module of Aftershock is imported before the fork, so that a job
always runs the code on the disk.
"""

import atexit
import os
import shlex
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from aftershock.jobs.forking.libraries import imported_libraries

LIBRARIES = frozenset({"pandas", "pyarrow", "torch", "transformers"})
SERVER, CLIENT = (Path(__file__).with_name(name) for name in ("server.py", "client.py"))

_sockets: dict[int, Path] = {}  # by the threads of a job, which libraries read when they are loaded
_starting = threading.Lock()


def can_fork(script: str) -> bool:
    """True for a script that imports all that the server has imported."""
    return sys.platform == "linux" and imported_libraries(script) >= LIBRARIES


def forking_interpreter(python: str, threads: int) -> str:
    """Return the shell's words that take the place of `python`, quoted already, before a script's path."""
    words = ("-IS", str(CLIENT), str(_socket_of_server(threads)))
    return " ".join([python, *map(shlex.quote, words), python])


def _socket_of_server(threads: int) -> Path:
    """Return the socket of the server for jobs with so many threads, which is started before the first."""
    with _starting:
        if threads not in _sockets:
            _sockets[threads] = Path(".snakemake", f"jobs.{os.getpid()}.{threads}.socket")
            _start_server(_sockets[threads])
        return _sockets[threads]


def _start_server(path: Path) -> None:
    """Start a server that lasts as long as this process; jobs find none where that fails."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        try:
            listener.bind(str(path))
            path.chmod(0o600)  # nobody else may have a job run
            listener.listen(socket.SOMAXCONN)
        except OSError as error:
            print(f"Jobs start without a fork server: {path}: {error.strerror}.", file=sys.stderr)
            return
        server = subprocess.Popen(
            [sys.executable, str(SERVER), str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    atexit.register(server.communicate)
