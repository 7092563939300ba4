"""Survival of outages of SLURM's controller during a run.

When SLURM gives no answer in a round of questions, snakemake-executor-plugin-slurm (2.8.0) neither reports
its jobs nor keeps them, and the run waits for ever.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

REPORTS = ("report_job_success", "report_job_error")


def survive_outages(executor: Any) -> None:
    """Make a class of executors ask again about jobs that it would forget."""
    check_active_jobs = executor.check_active_jobs

    async def check(self: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        told: list[Any] = []
        with _noted(self, told):
            async for job in check_active_jobs(self, active_jobs):
                told.append(job)
                yield job
        for job in active_jobs:
            if not any(job is other for other in told):
                yield job

    executor.check_active_jobs = check


@contextmanager
def _noted(executor: Any, told: list[Any]) -> Iterator[None]:
    """Add the jobs that an executor reports as ended to a list."""

    def noting(report: Any) -> Any:
        def note(job: Any, *arguments: Any, **named: Any) -> Any:
            told.append(job)
            return report(job, *arguments, **named)

        return note

    for name in REPORTS:
        setattr(executor, name, noting(getattr(executor, name)))
    try:
        yield
    finally:
        for name in REPORTS:
            delattr(executor, name)
