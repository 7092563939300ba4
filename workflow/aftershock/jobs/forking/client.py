"""Run a script in a process forked by the server: `python client.py SOCKET PYTHON SCRIPT`.

This process ends as the job's process has ended. Where no server answers, it becomes `PYTHON SCRIPT`. It
starts for every job, so it imports little.
"""

import json
import os
import signal
import socket
import sys

STANDARD_FILES = (0, 1, 2)


def main(path: str, python: str, script: str) -> None:
    """Have the script run, and end as it does."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with socket.socket(socket.AF_UNIX) as connection:
        if not _ask(connection, path, script):
            os.execv(python, [python, script])
        _end_as(_wait(connection))


def _ask(connection: socket.socket, path: str, script: str) -> bool:
    """Ask for a job; True once it has been forked."""
    job = {"environment": dict(os.environ), "folder": os.getcwd(), "script": os.path.abspath(script)}
    text = json.dumps(job).encode()
    try:
        connection.connect(path)
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], STANDARD_FILES)
        connection.sendall(text)
        return bool(connection.recv(1))
    except OSError:
        return False


def _wait(connection: socket.socket) -> int:
    """Return the exit code of the job, negative for a signal. A request to end is passed on to it.

    An interrupt from the terminal reaches the job by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: connection.send(bytes([number])))
    try:
        code = connection.recv(2, socket.MSG_WAITALL)
    except OSError:
        code = b""
    if not code:
        sys.exit("the process that this job was forked from has ended, and the job with it")
    return int.from_bytes(code, "big", signed=True)


def _end_as(code: int) -> None:
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
