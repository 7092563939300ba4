"""GPUs of a workstation, allocated to one job at a time. On a cluster the scheduler does this.

A job holds a lock for each of its GPUs, in a folder that all runs of this user on this machine share. The
lock goes with the process, however it ends.
"""

import fcntl
import logging
import os
import subprocess
import tempfile
import time
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 1.0
QUERY_SECONDS = 30


def take_gpus(count: int) -> list[str]:
    """GPUs that this process has to itself until it ends, set in CUDA_VISIBLE_DEVICES; waits for free ones.

    None are taken on a machine without GPUs, where the process computes on the processor, and in a SLURM job,
    which has its own. ValueError when the machine has fewer than `count`.
    """
    if count < 1 or "SLURM_JOB_ID" in os.environ:
        return []
    present = list_gpus()
    if not present:
        return []
    if count > len(present):
        raise ValueError(
            f"the job asks for {count} GPUs, but there are {len(present)} ({', '.join(present)}): "
            "lower its `gpu` in set-resources of the profile"
        )
    taken = _wait_for(present, count)
    os.environ[VISIBLE] = ",".join(taken)
    return taken


def list_gpus() -> list[str]:
    """The GPUs of this machine that this process may use, by index or as CUDA_VISIBLE_DEVICES names them."""
    if (named := os.environ.get(VISIBLE)) is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return [index for (index,) in query_gpus("index")]


def query_gpus(*fields: str, seconds: float = QUERY_SECONDS) -> list[list[str]]:
    """Return nvidia-smi's row of each GPU of this machine; nothing where it is missing or fails.

    Raises TimeoutExpired where it does not answer.
    """
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=seconds, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [[part.strip() for part in line.split(",")] for line in said.splitlines()]


def _wait_for(present: list[str], count: int) -> list[str]:
    """`count` of the GPUs `present`, locked. A job that waits holds none: two never wait for each other."""
    folder = Path(tempfile.gettempdir()) / f"aftershock-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    said = False
    while True:
        held: dict[str, int] = {}
        for name in present:
            if len(held) < count and (handle := _lock(folder / f"{name}.lock")) is not None:
                held[name] = handle
        if len(held) == count:
            return list(held)
        for handle in held.values():
            os.close(handle)
        if not said:
            logging.info("waiting for a free GPU")
            said = True
        time.sleep(POLL_SECONDS)


def _lock(path: Path) -> int | None:
    """An open handle that holds the lock, for as long as it is open; None when another process has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
