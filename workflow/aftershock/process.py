"""A process that ends when the run it belongs to has ended.

A killed Snakemake leaves its jobs running. So a run names itself in the environment (`name_run`), and every
stage watches it and the processes in between (`watch_parent`), and looks once more before an output appears
(`check_parent`).

A SLURM job belongs to the scheduler, also where it shares a host with the run that submitted it: its first
Snakemake names itself as the run of what is in the job.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

import psutil

RUN = "AFTERSHOCK_RUN"
NO_RUN = " 0 0 -"  # host, process id, its start in seconds since 1970, SLURM job or "-"
STEP = "slurmstepd"
POLL_SECONDS = 0.2
CLOCK_SECONDS = 60.0  # two readers of one process's start time differ by as much as the clock was set
PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
KEPT_BLOCK = 32 * 2**20

_watched: list[psutil.Process] = []


class RunGoneError(RuntimeError):
    """The run that this process belongs to has ended."""


def name_run() -> None:
    """Name this process in the environment as the run of all it starts, unless it belongs to a live run."""
    if not _belongs() or _run() is None:
        me = psutil.Process()
        os.environ[RUN] = f"{socket.gethostname()} {me.pid} {me.create_time():.2f} {slurm_job()}"


def watch_parent() -> None:
    """End this process when its run, or a process between the two, has ended; nothing to do outside a run.

    A run on another host, or that submitted the SLURM job which this process is in, is left to the scheduler
    that connects the two; in a SLURM job only what lies between this process and its step is watched then.
    Raises RunGoneError when the run has ended already.
    """
    _, pid, _, _ = _named()
    if pid == os.getpid():
        return
    if not _belongs():
        if slurm_job() != "-":
            watch(_up_to_step())
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
    """True if this very process, not another that took over its number, is still running."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find_process(pid: int, started: float) -> psutil.Process | None:
    """The process with this number on this host, where it is alive and had begun by then."""
    try:
        process = psutil.Process(pid)
        begun = process.create_time() - started < CLOCK_SECONDS
        return process if begun and alive(process) else None
    except psutil.NoSuchProcess:
        return None


def slurm_job() -> str:
    """The SLURM job that this process is in; "-" outside one."""
    return os.environ.get("SLURM_JOB_ID") or "-"


def keep_freed_memory() -> None:
    """Let glibc's malloc keep blocks of up to `KEPT_BLOCK` bytes that were freed, for the next ones.

    By default it gives tensors of a few MB back to the system at once, and each new one is paged in again: a
    tenth of the time that training a small model takes. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK)
        mallopt(M_TRIM_THRESHOLD, 8 * KEPT_BLOCK)


def share_out(work: Callable[[int], None], processes: int) -> None:
    """Call `work` once with each share from 0 on, the first in this process and the others in forks of it.

    What a fork prints goes where this process prints. Raises RuntimeError when a share was not finished. Not
    for processes that compute on several threads, of which a fork has none.
    """
    me, forks = os.getpid(), []
    try:
        for share in range(1, processes):
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if not pid:
                _end_after(work, share, me)
            forks.append(pid)
        work(0)
    except BaseException:
        for pid in forks:
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in forks]
    if any(codes):
        raise RuntimeError("a process that shared the work ended with an error, see above")


def _end_after(work: Callable[[int], None], share: int, parent: int) -> NoReturn:
    """Do one share of work, then end this forked process; it ends with its parent, too."""
    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            work(share)
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # nothing of the parent's is to be closed or cleared up here


def ancestors_up_to_make() -> list[psutil.Process]:
    """The processes between this one and the nearest make, make included; none when make did not start it."""
    chain = psutil.Process().parents()
    names = [process.name() for process in chain]
    return next((chain[: i + 1] for i, name in enumerate(names) if name in ("make", "gmake")), [])


def _poll() -> None:
    while all(alive(process) for process in _watched):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _named() -> tuple[str, int, float, str]:
    """Host, process id, start and SLURM job of the run named in the environment; NO_RUN's without one."""
    host, pid, started, job = os.environ.get(RUN, NO_RUN).split(" ")
    return host, int(pid), float(started), job


def _belongs() -> bool:
    """True if this process can belong to the named run: same host, and no SLURM job between the two.

    A run inside a SLURM job takes SLURM's variables out of the environment of the jobs it runs itself.
    """
    host, _, _, job = _named()
    return host == socket.gethostname() and slurm_job() in ("-", job)


def _up_to_step() -> list[psutil.Process]:
    """The processes between this one and its SLURM step, which is not one of them."""
    parents = psutil.Process().parents()
    names = [process.name() for process in parents]
    return parents[: names.index(STEP)] if STEP in names else parents[:1]


def _run() -> psutil.Process | None:
    """The named run, when it is alive on this host."""
    _, pid, started, _ = _named()
    return find_process(pid, started)
