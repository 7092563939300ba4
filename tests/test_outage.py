"""Jobs that an executor forgets when SLURM is silent are asked about again."""

import asyncio
from typing import Any

from aftershock.jobs.patches import survive_outages


class Forgetful:
    """An executor as the plugin's: in a silent round it neither yields nor reports."""

    def __init__(self, silent: bool) -> None:
        self.silent, self.ended = silent, []

    def report_job_success(self, job: Any) -> None:
        self.ended.append(job)

    def report_job_error(self, job: Any, msg: str = "") -> None:
        self.ended.append((job, msg))

    async def check_active_jobs(self, jobs: list[Any]) -> Any:
        if not self.silent:
            self.report_job_success(jobs[0])
            self.report_job_error(jobs[1], msg="out of memory")
            yield jobs[2]


def test_only_forgotten_jobs_come_back() -> None:
    survive_outages(Forgetful)

    async def left(executor: Forgetful) -> list[Any]:
        return [job async for job in executor.check_active_jobs(["a", "b", "c"])]

    assert asyncio.run(left(Forgetful(silent=True))) == ["a", "b", "c"]
    calm = Forgetful(silent=False)
    assert asyncio.run(left(calm)) == ["c"]
    assert calm.ended == ["a", ("b", "out of memory")]
    assert "report_job_success" not in vars(calm)
