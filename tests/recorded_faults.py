"""Recorded runs: tests/faults/ has the logs and records that real faults left.

`cluster` ran on a real SLURM cluster of one node: each rule is named after what was done to its job. `again`
is the run after it, with a retry. `workstation` ran without SLURM.
"""

import json
import os
from pathlib import Path

FAULTS = Path(__file__).parent / "faults"
PLACES = {"log": ".snakemake/log", "slurm_logs": ".snakemake/slurm_logs", "jobs": "results/jobs"}
RECORDED = 1_795_275_000
JOB = "toy.00000-00031"
BEGUN = """\
Building DAG of jobs...
Job stats:
job      count
-----  -------
hold         1
total        1

[Sat Nov 21 15:02:54 2026]
Job 1: Working on hold 00000-00031
"""


def lay_out(folder: Path, name: str) -> None:
    """Put a recorded run in its place below `folder`."""
    for kind, place in PLACES.items():
        for path in sorted((FAULTS / name / kind).rglob("*.*")):
            target = folder / place / path.relative_to(FAULTS / name / kind)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text().replace("/study/", f"{folder}/"))
            os.utime(target, (RECORDED, RECORDED))
    arguments = ["--profile", "profile"] if name != "workstation" else ["--cores", "2"]
    run = {"arguments": arguments, "host": "node1", "pid": 1, "started": "2026-11-21 15:17:36", "exit": 1}
    run["job_prefix"] = None
    (folder / "results/.run.json").write_text(json.dumps(run))


def log(folder: Path, text: str) -> None:
    path = folder / ".snakemake/log/2026-11-21T145600.1.snakemake.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
