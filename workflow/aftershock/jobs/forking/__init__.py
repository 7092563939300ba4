"""Jobs of a local run that are forked from a process which has imported their libraries already.

Importing them takes most of the processor time of a small job. `server` imports them once and forks itself
for each job; there is one for jobs with a model, which need torch and transformers, and one for jobs that
only read and write tables. Whatever goes wrong before a job has begun, it starts in the ordinary way.

Only scripts that import all LIBRARIES of a server themselves are forked from it: a stage notes the versions
and seeds the generators of the libraries that are there. No module of Aftershock is imported before the fork,
so that a job always runs the code on the disk.
"""

import ast
import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from aftershock.project import PACKAGE

LIBRARIES = {
    "models": frozenset({"pandas", "pyarrow", "torch", "transformers"}),
    "tables": frozenset({"pandas", "pyarrow"}),
}
"""Libraries that a script imports to be forked from the server of a kind; the first kind that fits counts."""
SERVER = Path(__file__).with_name("server.py")

_servers: dict[tuple[str, str], socket.socket] = {}  # by kind and threads, which libraries read when loaded
_lock = threading.Lock()


def kind_of_server(script: str) -> str | None:
    """Return the kind of the server whose libraries a script imports; None for one that is not forked."""
    if not _processes_can_be_awaited():
        return None
    imported = imported_libraries(script)
    return next((kind for kind, libraries in LIBRARIES.items() if imported >= libraries), None)


@cache
def _processes_can_be_awaited() -> bool:
    """True on Linux since 5.3."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def run_forked(kind: str, script: str, environment: Mapping[str, str]) -> int | None:
    """Run a script in a forked process; return its exit code, None where it has to be started otherwise."""
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("r") as answers:
        try:
            with theirs, _lock:
                socket.send_fds(
                    _server(kind, environment.get("OMP_NUM_THREADS", "")), [b"+"], [theirs.fileno()]
                )
            ours.sendall(
                json.dumps({"script": os.path.abspath(script), "environment": dict(environment)}).encode()
            )
            ours.shutdown(socket.SHUT_WR)
            if not answers.readline():
                return None
        except OSError:
            return None
        code = answers.readline()
    if not code:
        print("The process that this job was forked from has ended, and the job with it.", file=sys.stderr)
    return int(code or 1)


def _server(kind: str, threads: str) -> socket.socket:
    """Return the connection to a server, which is started before the first job and ends with this process."""
    if (kind, threads) not in _servers:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, str(SERVER), str(theirs.fileno()), kind]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        _servers[kind, threads] = ours
        atexit.register(process.wait)
        atexit.register(ours.close)  # runs first
    return _servers[kind, threads]


@cache
def imported_libraries(script: str) -> frozenset[str]:
    """Return the libraries that a file imports when it is run, itself or through modules of ours."""
    found: set[str] = set()
    waiting, seen = [Path(script)], set[Path]()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            ours, libraries = _imports(file)
            waiting += ours
            found |= libraries
    return frozenset(found)


@cache
def _imports(file: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Return the files of ours and the libraries that a file imports by itself."""
    named = {tuple(name.split(".")) for node in ast.parse(file.read_bytes()).body for name in _names(node)}
    inner = {parts for parts in named if parts[0] == PACKAGE.name}
    ours = {parts[:depth] for parts in inner for depth in range(1, len(parts) + 1)}
    paths = [PACKAGE.parent.joinpath(*parts) for parts in ours]
    files = {file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py")}
    return frozenset(filter(Path.is_file, files)), frozenset(parts[0] for parts in named - inner)


def _names(node: ast.stmt) -> Iterator[str]:
    """Yield what a statement imports: modules, and what may be modules in them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
