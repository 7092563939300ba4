"""Jobs of a local run that are forked from a process which has imported their libraries already.

Importing them takes most of the processor time of a small job. `server` imports them once and forks itself
for each job; there is one for jobs with a model, which need torch and transformers, and one for jobs that
only read and write tables. `client` takes the place of the interpreter in the command that Snakemake starts,
and hands the server the script together with its environment, folder and standard files. Whatever goes wrong
before the job has begun, the client starts it in the ordinary way.

Only scripts that import all LIBRARIES of a server themselves are forked from it: a stage notes the versions
and seeds the generators of the libraries that are there. No module of Aftershock is imported before the fork,
so that a job always runs the code on the disk.
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

LIBRARIES = {
    "models": frozenset({"pandas", "pyarrow", "torch", "transformers"}),
    "tables": frozenset({"pandas", "pyarrow"}),
}
"""Libraries that a script imports to be forked from the server of a kind; the first kind that fits counts."""
SERVER, CLIENT = (Path(__file__).with_name(name) for name in ("server.py", "client.py"))

_sockets: dict[tuple[str, int], Path] = {}  # by kind and threads, which libraries read when they are loaded
_starting = threading.Lock()


def kind_of_server(script: str) -> str | None:
    """Return the kind of the server whose libraries a script imports; None for one that is not forked."""
    if sys.platform != "linux":
        return None
    imported = imported_libraries(script)
    return next((kind for kind, libraries in LIBRARIES.items() if imported >= libraries), None)


def forking_interpreter(python: str, kind: str, threads: int) -> str:
    """Return the shell's words that take the place of `python`, quoted already, before a script's path."""
    words = ("-IS", str(CLIENT), str(_socket_of_server(kind, threads)))
    return " ".join([python, *map(shlex.quote, words), python])


def _socket_of_server(kind: str, threads: int) -> Path:
    """Return the socket of the server for jobs with so many threads, which is started before the first."""
    with _starting:
        if (kind, threads) not in _sockets:
            path = Path(".snakemake", f"{kind}.{os.getpid()}.{threads}.socket")
            _sockets[kind, threads] = path
            _start_server(path, kind)
        return _sockets[kind, threads]


def _start_server(path: Path, kind: str) -> None:
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
            [sys.executable, str(SERVER), str(listener.fileno()), kind],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    atexit.register(server.communicate)
