"""GPUs of a workstation, allocated to one job at a time. On a cluster the scheduler does this.

A job holds a lock for each of its GPUs, in a folder that all runs of this user on this machine share. The
lock goes with the process, however it ends.
"""

import fcntl
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
    present = list_gpus() if count > 0 and "SLURM_JOB_ID" not in os.environ else []
    if not present:
        return []
    if count > len(present):
        raise ValueError(
            f"the job asks for {count} GPUs, but there are {len(present)} ({', '.join(present)}): "
            "lower its `gpu` in set-resources of the profile"
        )
    folder = Path(tempfile.gettempdir()) / f"aftershock-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while len(taken := _lock_free(folder, present, count)) < count:
        time.sleep(POLL_SECONDS)
    os.environ[VISIBLE] = ",".join(taken)
    return taken


def _lock_free(folder: Path, present: list[str], count: int) -> list[str]:
    """Lock `count` of the GPUs `present`, or none of them: two jobs that wait never wait for each other."""
    held: dict[str, int] = {}
    for name in present:
        handle = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held[name] = handle
        except BlockingIOError:
            os.close(handle)
        if len(held) == count:
            return list(held)  # whose handles stay open as long as this process lives
    for handle in held.values():
        os.close(handle)
    return []


def list_gpus() -> list[str]:
    """The GPUs of this machine that this process may use, by index or as CUDA_VISIBLE_DEVICES names them."""
    if (named := os.environ.get(VISIBLE)) is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return [index for (index,) in query_gpus("index")]


def query_gpus(*fields: str) -> list[list[str]]:
    """Return nvidia-smi's row of each GPU of this machine; nothing where it is missing or fails.

    Raises TimeoutExpired where it does not answer.
    """
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [[part.strip() for part in line.split(",")] for line in said.splitlines()]
