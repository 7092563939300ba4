"""Adoption of outputs that jobs finished after their run was killed, where their parameters are known.

Snakemake's own record of an output, which tells it later that parameters or code have changed, is written by
the run and not by the job. An output that a SLURM job finishes after its run has died has none, or an old
one, and would be reused although parameters have changed. So every run looks at such outputs: those that are
newer than their inputs, and whose job's own record has the parameters of today, are noted for Snakemake;
all others are made again.
"""

import json
import sys
from pathlib import Path
from typing import Any

from aftershock.jobs.record import params_hash, record_path

SAME_SECONDS = 1.0


def adopt_finished() -> None:
    """Have the Snakemake of this process check outputs that it has no record of."""
    from snakemake.dag import DAG

    check_incomplete = DAG.check_incomplete

    async def check(dag: Any) -> None:
        await check_incomplete(dag)
        await _adopt(dag)

    DAG.check_incomplete = check


async def _adopt(dag: Any) -> None:
    """Adopt outputs before Snakemake decides which jobs to run; `forcefiles` are always made again."""
    known, other = 0, []
    for job in dag.jobs:
        if any(f in dag.forcefiles for f in job.output) or not await _is_unrecorded(dag, job):
            continue
        same = _made_from(job) == params_hash(dict(job.params.items()))
        if same and await _is_newest(job):
            await dag.workflow.persistence.finished(job)
            known += 1
        else:
            dag.forcefiles.update(job.output)
            other.append(str(job.output[0]))
    if known:
        print(f"Taken over from jobs that ended without their run: {known}.", file=sys.stderr)
    if other:
        print(
            f"Made again, as what made them has changed or is not known: {len(other)}, such as {other[0]}.",
            file=sys.stderr,
        )


async def _is_newest(job: Any) -> bool:
    """True if the outputs are newer than all inputs, which exist."""
    made = min([(await f.mtime()).local_or_storage() for f in job.output])
    return all([await f.exists() and not await f.is_newer(made) for f in job.input])


async def _is_unrecorded(dag: Any, job: Any) -> bool:
    """True if all outputs exist, and one was made after Snakemake last recorded it."""
    if not job.output or not all([await f.exists() for f in job.output]):
        return False
    records = [dag.workflow.persistence.metadata(f) for f in job.output]
    if None in records:
        return True
    made = [(await f.mtime()).local_or_storage() for f in job.output]
    later = any(m > r.endtime + SAME_SECONDS for m, r in zip(made, records, strict=True) if r.endtime)
    return later and _made_from(job) is not None


def _made_from(job: Any) -> str | None:
    """The hash of the parameters of the job that last made an output; None when unknown."""
    path: Path = record_path(job.rule.name, job.wildcards_dict)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return record.get("params") if record["state"] == "done" else None
