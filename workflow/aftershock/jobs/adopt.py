"""What jobs finished after their run had been killed: taken over when it is known what they were made from.

Snakemake's own record of an output, which tells it later that parameters or code have changed, is written by
the run and not by the job. An output that a SLURM job finishes after its run is dead has none, and would be
reused for ever, whatever changes. So the next run compares the job's own record with the parameters of today:
equal ones are noted for Snakemake, all others are made again.
"""

import json
import sys
from pathlib import Path
from typing import Any

from snakemake.dag import DAG

from aftershock.jobs.record import params_hash, record_path


def adopt_finished() -> None:
    """Have the Snakemake of this process look at outputs without a record of how they were made."""
    check_incomplete = DAG.check_incomplete

    async def check(dag: DAG) -> None:
        await check_incomplete(dag)
        await _adopt(dag)

    DAG.check_incomplete = check


async def _adopt(dag: DAG) -> None:
    """Comes after the jobs are known and before it is decided which to run; `forcefiles` are made again."""
    known, unknown = 0, []
    for job in dag.jobs:
        if not job.output or dag.workflow.persistence.has_metadata(job):
            continue
        if any(f in dag.forcefiles for f in job.output) or not all([await f.exists() for f in job.output]):
            continue
        if _made_by(job):
            await dag.workflow.persistence.finished(job)
            known += 1
        else:
            dag.forcefiles.update(job.output)
            unknown.append(str(job.output[0]))
    if known:
        print(f"Taken over from jobs of the last run that ended without it: {known}.", file=sys.stderr)
    if unknown:
        print(
            f"Made again, as nothing tells what they were made from: {len(unknown)}, such as {unknown[0]}.",
            file=sys.stderr,
        )


def _made_by(job: Any) -> bool:
    """Whether the job's own record says that it is done, with the parameters it would have today."""
    path: Path = record_path(job.rule.name, job.wildcards_dict)
    if not path.exists():
        return False
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return False
    return record["state"] == "done" and record.get("params") == params_hash(dict(job.params.items()))
