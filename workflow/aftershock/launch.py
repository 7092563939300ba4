"""Run Snakemake as the only run in this folder: `python -m aftershock.launch [snakemake arguments]`.

The lock is held by the process, so it goes with it, however it ends. What a killed run left behind
(Snakemake's own lock, half-written files) is cleared away before the next one starts.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from aftershock.process import alive, name_run, watch

LOCK = Path("results/.lock")
SNAKEMAKE_LOCKS = Path(".snakemake/locks")
ORPHAN_SECONDS = 5.0  # what belongs to a killed run has ended long before
ALWAYS = ("--quiet", "host", "reason", "--rerun-incomplete")


def main(arguments: Sequence[str]) -> None:
    """Take the lock, clear up after a killed run, then be Snakemake."""
    watch(_ancestors_up_to_make())
    hold(LOCK)
    clear_up(arguments)
    name_run()
    from snakemake.cli import main as snakemake

    sys.argv = ["snakemake", *ALWAYS, *arguments]
    snakemake(sys.argv[1:])


def hold(path: Path) -> None:
    """Take the lock at `path` for as long as this process lives; exit naming the holder when it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, _, started = path.read_text(encoding="utf-8").partition(" ")
        sys.exit(
            f"another run is working in {path.parent}/: process {pid}, started {started}. "
            f"Wait until it has finished, or end it with: kill {pid}"
        )
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()} {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())


def clear_up(arguments: Sequence[str]) -> None:
    """Remove what a killed run left; exit when a Snakemake started without this launcher is at work here."""
    if SNAKEMAKE_LOCKS.is_dir() and any(SNAKEMAKE_LOCKS.iterdir()):
        working = _wait_for_others()
        if working:
            numbers = ", ".join(str(process.pid) for process in working)
            sys.exit(
                f"a Snakemake run is working in this folder (process {numbers}); wait until it has finished"
            )
        print("Clearing up after a run that was killed.", file=sys.stderr)
        unlock = [sys.executable, "-m", "snakemake", *arguments, "--quiet", "all", "--unlock"]
        subprocess.run(unlock, check=True)
    for part in list(LOCK.parent.rglob(".*.part")):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _wait_for_others() -> list[psutil.Process]:
    """Other Snakemake processes and stages of this folder that are still there after a few seconds."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    others = [process for process in psutil.process_iter() if _works_here(process)]
    while others and time.monotonic() < deadline:
        time.sleep(0.1)
        others = [process for process in others if alive(process)]
    return others


def _works_here(process: psutil.Process) -> bool:
    """Whether another process of this user is Snakemake, or a script it started, in the current folder."""
    if process.pid == os.getpid():
        return False
    try:
        words = process.cmdline()
        here = process.cwd() == os.getcwd()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return here and any(Path(word).name == "snakemake" or ".snakemake/scripts/" in word for word in words)


def _ancestors_up_to_make() -> list[psutil.Process]:
    """The processes between this one and the nearest make, make included; none when make did not start it."""
    chain = psutil.Process().parents()
    names = [process.name() for process in chain]
    return next((chain[: i + 1] for i, name in enumerate(names) if name in ("make", "gmake")), [])


if __name__ == "__main__":
    main(sys.argv[1:])
