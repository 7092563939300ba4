"""A folder's lock, which ends with its process, and other processes at work in the folder."""

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from aftershock.process import alive, slurm_job

LOCK = Path("results/.lock")
ORPHAN_SECONDS = 5.0  # processes of a killed run on this host end long before
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
PROGRAMS = ("snakemake", "sbatch")


def hold(path: Path) -> None:
    """Take the lock at `path` for as long as this process lives; exit naming the holder when it is taken."""
    try:
        _take(path)
    except ValueError as error:
        sys.exit(str(error))


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Context manager: the lock at `path` is taken; ValueError naming the holder when it is taken already."""
    handle = _take(path)
    try:
        yield
    finally:
        os.close(handle)


def _take(path: Path) -> int:
    """Return a handle that holds the lock at `path` until it is closed; ValueError says why there is none.

    Over hosts that share the file system too, where it passes locks on, as NFS does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        raise ValueError(
            f"{path} belongs to {path.owner()} and may not be written. Have them allow it, or delete it"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise ValueError(f"another run is working in {path.parent}/{_holder(path)}") from None
        if error.errno not in NO_LOCKS:
            raise
        raise ValueError(
            f"{path.parent}/ is on a file system without file locks ({error.strerror}): two runs could not "
            "be kept apart. Mount it with locks (Lustre: -o flock; NFS: without nolock), or move "
            f"{path.parent}/ to another disk and leave a link in its place"
        ) from None
    os.ftruncate(handle, os.pwrite(handle, _described(), 0))
    os.fsync(handle)  # for readers on other hosts
    return handle


def _described() -> bytes:
    return f"{os.getpid()} {socket.gethostname()} {time.strftime('%Y-%m-%d %H:%M:%S')}".encode()


def _holder(path: Path) -> str:
    """Text that names the lock's holder and how to end it."""
    pid, host, started = [*path.read_text(encoding="utf-8").split(" ", 2), "", "", ""][:3]
    if not started:
        return ". Wait until it has finished"
    if host == socket.gethostname():
        return f": process {pid}, started {started}. Wait until it has finished, or end it with: kill {pid}"
    return (
        f": process {pid} on {host}, started {started}. Wait until it has finished, or on {host}: kill {pid}"
    )


def others_at_work() -> list[psutil.Process]:
    """Other Snakemake processes and stages of this folder that are still there after a few seconds."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    others = [process for process in psutil.process_iter() if _works_here(process)]
    while others and time.monotonic() < deadline:
        time.sleep(0.1)
        others = [process for process in others if alive(process)]
    return others


def _works_here(process: psutil.Process) -> bool:
    """True if another process, in no SLURM job, is Snakemake or was started by it in the current folder."""
    if process.pid == os.getpid():
        return False
    try:
        words = process.cmdline()
        here = process.cwd() == os.getcwd()
        elsewhere = process.environ().get("SLURM_JOB_ID", "-") not in ("-", slurm_job()) if here else False
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    ours = any(Path(word).name in PROGRAMS or ".snakemake/scripts/" in word for word in words)
    return here and ours and not elsewhere
