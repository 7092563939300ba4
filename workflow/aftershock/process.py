"""A process that ends when the run it belongs to has ended.

A killed Snakemake leaves its jobs running. So a run names itself in the environment (`name_run`), and every
stage watches it and the processes in between (`watch_parent`), and looks once more before an output appears
(`check_parent`).
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable

import psutil

RUN = "AFTERSHOCK_RUN"
POLL_SECONDS = 0.2
CLOCK_SECONDS = 60.0  # two readers of one process's start time differ by as much as the clock was set
PR_SET_PDEATHSIG = 1

_watched: list[psutil.Process] = []


class RunGoneError(RuntimeError):
    """The run that this process belongs to has ended."""


def name_run() -> None:
    """Name this process in the environment as the run of all it starts, unless it belongs to a live run."""
    host, _ = _named()
    if host != socket.gethostname() or _run() is None:
        me = psutil.Process()
        os.environ[RUN] = f"{socket.gethostname()} {me.pid} {me.create_time():.2f}"


def watch_parent() -> None:
    """End this process when its run, or a process between the two, has ended; nothing to do outside a run.

    A run on another host is left to the scheduler that connects the two. Raises RunGoneError when the run has
    ended already.
    """
    host, pid = _named()
    if host != socket.gethostname() or pid == os.getpid():
        return
    run = _run()
    if run is None:
        raise RunGoneError(f"the run that started this stage (process {pid}) has ended")
    between = []
    for ancestor in psutil.Process().parents():
        if ancestor == run:
            break
        between.append(ancestor)
    else:
        between = between[:1]
    watch([*between, run])


def watch(processes: Iterable[psutil.Process]) -> None:
    """Kill this process once one of `processes` has ended; at once for the direct parent, on Linux."""
    first = not _watched
    _watched.extend(processes)
    if sys.platform == "linux" and any(p.pid == os.getppid() for p in _watched):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    check_parent()
    if first:
        threading.Thread(target=_poll, name="watch_parent", daemon=True).start()


def check_parent() -> None:
    """Raise RunGoneError when a watched process has ended."""
    for process in _watched:
        if not alive(process):
            raise RunGoneError(f"process {process.pid}, which this stage belongs to, has ended")


def alive(process: psutil.Process) -> bool:
    """Whether this very process, not another that took over its number, is still running."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _poll() -> None:
    while all(alive(process) for process in _watched):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _named() -> tuple[str, int]:
    """Host and process id of the run named in the environment; ("", 0) when there is none."""
    host, pid, _ = os.environ.get(RUN, " 0 0").split(" ")
    return host, int(pid)


def _run() -> psutil.Process | None:
    """The named run, when it is alive on this host."""
    _, pid, started = os.environ.get(RUN, " 0 0").split(" ")
    try:
        process = psutil.Process(int(pid))
    except psutil.NoSuchProcess:
        return None
    same = abs(process.create_time() - float(started)) < CLOCK_SECONDS
    return process if same and alive(process) else None
