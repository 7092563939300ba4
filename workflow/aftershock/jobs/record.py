"""Record of each job: a JSON file below results/jobs/, kept from its start to its end.

A job that was killed, and could not write its end, stays `running` in its file.
"""

import hashlib
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from aftershock.jobs.gpus import VISIBLE
from aftershock.output import write_text
from aftershock.process import find_process

FOLDER = Path("results/jobs")
ASKED = ("mem_mb", "runtime", "gpu")
WRITE_SECONDS = 10.0  # seconds between two updates of a running job's record
SILENT_SECONDS = 6 * WRITE_SECONDS  # without an update, a job on another machine counts as gone
NEEDED = {"rule", "log", "state", "host", "pid", "started", "seconds", "slurm_job"}


class Record:
    """The record of one job. Its fields:

    rule, wildcards, log: what the job is, and where it writes
    state: running, done, failed (an error of its own) or stopped (told to end)
    host, pid, started (seconds since 1970), slurm_job, gpu (as CUDA_VISIBLE_DEVICES has it, null without one)
    asked: the ASKED ones of its resources, runtime in minutes
    done, total, unit: how far it is; null where it does not count
    began: its age in seconds and `done` when it began to count these
    seconds, peak_bytes, gpu_peak_bytes: its age and most memory so far, processes that it started included
    error: kind and text of the error; null without one
    params: a hash of the rule's parameters, settings and code included
    """

    def __init__(self, snakemake: Any) -> None:
        wildcards, resources = dict(snakemake.wildcards.items()), dict(snakemake.resources.items())
        self.path = record_path(snakemake.rule, wildcards)
        self._born = psutil.Process().create_time()  # includes memory of imports before the stage
        self.fields: dict[str, Any] = {
            "rule": snakemake.rule,
            "wildcards": wildcards,
            "log": snakemake.log[0],
            "state": "running",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": round(self._born, 2),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "asked": {name: resources[name] for name in ASKED if name in resources},
            "params": params_hash(dict(snakemake.params.items())),
            **dict.fromkeys(("done", "total", "unit", "began", "error")),
        }
        self._ended = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="record", daemon=True)

    def open(self) -> None:
        """Write the file, and again every WRITE_SECONDS until the job ends."""
        self._write()
        self._follower.start()

    def count(self, done: float, total: float | None, unit: str) -> None:
        """Note the job's progress; written with the next update."""
        before = self.fields
        if not before["began"] or (before["total"], before["unit"]) != (total, unit) or done < before["done"]:
            before["began"] = [self._age(), done]
        before |= {"done": done, "total": total, "unit": unit}

    def close(self, error: BaseException | None = None) -> None:
        """Write how the job ended."""
        self._ended.set()
        self._follower.join()
        self.fields["state"] = "done"
        if error is not None:
            self.fields["state"] = "failed" if isinstance(error, Exception) else "stopped"
            self.fields["error"] = {"kind": type(error).__name__, "text": str(error)}
        self._write()

    def _age(self) -> float:
        return round(time.time() - self._born, 2)

    def _follow(self) -> None:
        while not self._ended.wait(WRITE_SECONDS):
            try:
                self._write()
            except OSError as error:  # a full disk ends the job where it writes its results
                print(f"the job's record could not be written: {error}", file=sys.stderr)

    def _write(self) -> None:
        self._note_memory()
        self.fields |= {"gpu": os.environ.get(VISIBLE) or None, "seconds": self._age()}
        write_text(self.path, json.dumps(self.fields, indent=1))

    def _note_memory(self) -> None:
        """Note the most memory so far, in bytes: on the host with the largest child, and on a GPU."""
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
        whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peak = sum(resource.getrusage(each).ru_maxrss for each in whose) * unit
        cuda = getattr(sys.modules.get("torch"), "cuda", None)
        used = cuda.max_memory_allocated() if cuda and cuda.is_initialized() else None
        self.fields |= {"peak_bytes": peak, "gpu_peak_bytes": used}


def record_path(rule: str, wildcards: Mapping[str, str]) -> Path:
    """Path of a job's record."""
    return FOLDER / rule / f"{'.'.join(wildcards.values()) or 'all'}.json"


def params_hash(params: Mapping[str, Any]) -> str:
    """A hash of a rule's parameters; equal for equal values."""
    text = json.dumps(params, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_record(path: Path) -> dict[str, Any]:
    """A job's record, with the time when it was `written`; empty where it is missing or damaged."""
    with suppress(OSError, ValueError, TypeError):
        return {"written": path.stat().st_mtime, **json.loads(path.read_text(encoding="utf-8"))}
    return {}


def finished_jobs(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The records of jobs that are done."""
    records = map(read_record, sorted(folder.glob("*/*.json")))
    return [record for record in records if record.get("state") == "done"]


def is_running(record: Mapping[str, Any]) -> bool:
    """True if the job of a record in state "running" is running: one elsewhere if it writes its record."""
    if not record.get("slurm_job") and record["host"] == socket.gethostname():
        return find_process(record["pid"], record["started"]) is not None
    return time.time() - record["written"] < SILENT_SECONDS
