"""Recorded runs: tests/faults/ has the logs and records that real faults left.

`cluster` ran on a real SLURM cluster of one node: each rule is named after what was done to its job. `again`
is the run after it, with a retry. `workstation` ran without SLURM.
"""

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from aftershock.jobs.record import record_path
from aftershock.jobs.run import FOLDER, Job, Run

FAULTS = Path(__file__).parent / "faults"
PLACES = {"runs": "results/.runs", "slurm_logs": ".snakemake/slurm_logs", "jobs": "results/jobs"}
RECORDED = 1_795_275_000
JOB = "toy.00000-00031"
STARTED = 1_795_272_960.0  # 2026-11-21 14:56:00
BEGUN: dict[str, Any] = {
    "planned": {"hold": 1},
    "last": "Working on hold 00000-00031",
    "last_time": STARTED + 414,
}
"""A run of one job."""


def lay_out(folder: Path, name: str) -> None:
    """Put a recorded run in its place below `folder`."""
    for kind, place in PLACES.items():
        for path in sorted((FAULTS / name / kind).rglob("*.*")):
            target = folder / place / path.relative_to(FAULTS / name / kind)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text().replace("/study/", f"{folder}/"))
            os.utime(target, (RECORDED, RECORDED))


def write_run(began: float = STARTED, pid: int = 2**22 - 1, **fields: Any) -> Path:
    """Write the record of a run of this machine that began at that time, by default one that is gone."""
    run = Run(["--cores", "2"], socket.gethostname(), pid, began, last_time=began + 1)
    path = FOLDER / f"{began:.6f}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run) | fields))
    return path


def failure(rule: str, name: str, ended: float, **fields: Any) -> dict[str, Any]:
    """A failed attempt at a job, as a run notes it."""
    noted = {"message": "", "log": f"results/logs/{rule}/{name}.log", "slurm_job": None, **fields}
    return {"record": str(record_path(rule, {"name": name})), "ended": ended, **noted}


def write_job(rule: str, name: str, **fields: Any) -> Job:
    """Write the record of a job that this process works on, and return the job."""
    path = record_path(rule, {"name": name})
    record = {"rule": rule, "log": f"results/logs/{rule}/{name}.log", "state": "running", "seconds": 30.0}
    record |= {"host": socket.gethostname(), "pid": os.getpid(), "slurm_job": None}
    record |= {"started": psutil.Process().create_time(), **fields}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return Job(rule, record["log"], record)
