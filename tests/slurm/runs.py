"""A run on the tests' cluster that a test watches and disturbs."""

import subprocess
import sys
from pathlib import Path

import psutil

from slurm.cluster import Cluster
from slurm.project import run_environment

EDITED = Path("results/world/small")
REDONE = ("coverage/ft", "coverage/memit")
"""Edits that such a run makes anew."""
SECONDS = 400


class Run:
    """A run on the cluster that goes on beside the test."""

    def __init__(self, folder: Path, cluster: Cluster, arguments: list[str]) -> None:
        self.folder, self.cluster = folder, cluster
        self.output = folder / "output.txt"
        with open(self.output, "a", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aftershock.launch", "--configfile", "small.yaml", *arguments],
                cwd=folder,
                env=run_environment(folder, cluster.environment),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stages(self) -> list[psutil.Process]:
        """The scripts of this folder that edit."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if process.cwd() == str(self.folder) and any(
                    "/scripts/" in w and "edit.py" in w for w in words
                ):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def wait_for_stages(self, count: int) -> list[psutil.Process]:
        """The scripts that edit, once there are so many; they stand still from then on."""
        stopped: dict[int, psutil.Process] = {}

        def enough() -> bool:
            for process in self.stages():
                if process.pid not in stopped:
                    process.suspend()
                    stopped[process.pid] = process
            return len(stopped) >= count

        self.cluster.wait_until(enough, 120, f"no {count} jobs at work: {self.said()}")
        return list(stopped.values())

    def end(self, seconds: float = SECONDS) -> int:
        """The run's exit status."""
        return self.process.wait(seconds)

    def said(self) -> str:
        """All that was printed so far."""
        return self.output.read_text(encoding="utf-8")
