"""Recorded runs: tests/faults/ has the logs and records that real faults left.

`cluster` ran on a real SLURM cluster of one node: each rule is named after what was done to its job. `again`
is the run after it, with a retry. `workstation` ran without SLURM.
"""

import json
import os
import socket
from pathlib import Path
from typing import Any

from aftershock.jobs.run import FOLDER

FAULTS = Path(__file__).parent / "faults"
PLACES = {"runs": "results/.runs", "slurm_logs": ".snakemake/slurm_logs", "jobs": "results/jobs"}
RECORDED = 1_795_275_000
JOB = "toy.00000-00031"
STARTED = 1_795_272_960.0  # 2026-11-21 14:56:00
BEGUN: list[dict[str, Any]] = [
    {"event": "planned", "at": STARTED + 1, "jobs": {"hold": 1}},
    {"event": "started", "at": STARTED + 414, "message": "Working on hold 00000-00031"},
]
"""Events of a run of one job."""


def lay_out(folder: Path, name: str) -> None:
    """Put a recorded run in its place below `folder`."""
    for kind, place in PLACES.items():
        for path in sorted((FAULTS / name / kind).rglob("*.*")):
            target = folder / place / path.relative_to(FAULTS / name / kind)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text().replace("/study/", f"{folder}/"))
            os.utime(target, (RECORDED, RECORDED))


def write_run(*events: dict[str, Any], at: float = STARTED, pid: int = 2**22 - 1) -> Path:
    """Write the record of a run of this machine that began at that time, by default one that is gone."""
    begun = {"event": "begun", "at": at, "arguments": ["--cores", "2"], "job_prefix": None}
    path = FOLDER / f"{at:.6f}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        begun | {"host": socket.gethostname(), "pid": pid},
        *({"at": at + 1} | event for event in events),
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path
