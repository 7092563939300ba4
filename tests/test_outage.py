"""The executor plugin asks again about jobs of which SLURM gave no account, and asks one program only."""

import asyncio
import logging
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin

from aftershock.jobs.patches import ask_slurm_again


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """As much of the plugin's executor as its questions need; SLURM answers with `states`."""

    async def query(command: str, logger: object) -> tuple:
        executor.asked.append(command.split()[0])
        return executor.states, None if executor.states is None else 0.1

    monkeypatch.setattr(plugin, "query_job_status", query)
    monkeypatch.setattr(plugin, "is_query_tool_available", lambda tool: True)
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: 10)
    settings = SimpleNamespace(
        status_attempts=5, init_seconds_before_status_checks=20, keep_successful_logs=True
    )
    executor = SimpleNamespace(
        asked=[],
        ended=[],
        states=None,
        run_uuid="1",
        logger=logging.getLogger("test"),
        workflow=SimpleNamespace(executor_settings=settings),
        status_rate_limiter=nullcontext(),
        next_seconds_between_status_checks=20,
        get_status_command=lambda: "squeue",
        report_job_success=lambda job: executor.ended.append(job.external_jobid),
        report_job_error=lambda job, msg, **_: executor.ended.append(msg),
        _preemption_warning=False,
        _status_query_calls=0,
        _status_query_failures=0,
        _status_query_total_seconds=0.0,
        _status_query_min_seconds=None,
        _status_query_max_seconds=0.0,
        _status_query_cycle_rows=[],
    )
    return executor


JOBS = [SimpleNamespace(external_jobid=number, aux={"slurm_logfile": None}) for number in "123"]


def left(executor: SimpleNamespace) -> list[str]:
    """The jobs that the plugin would ask about again."""

    async def found() -> list[str]:
        return [job.external_jobid async for job in plugin.Executor.check_active_jobs(executor, JOBS)]

    return asyncio.run(found())


def test_the_plugin_still_needs_the_patch(executor: SimpleNamespace) -> None:
    """If this fails, ask_slurm_again in jobs/patches.py may go."""
    assert left(executor) == []
    assert set(executor.asked) == {"sacct"}


def test_no_job_is_forgotten(executor: SimpleNamespace) -> None:
    ask_slurm_again(plugin, "squeue")
    assert left(executor) == ["1", "2", "3"]
    executor.states = {"1": "COMPLETED", "2": "OUT_OF_MEMORY", "3": "RUNNING"}
    assert left(executor) == ["3"]
    assert executor.ended[0] == "1"
    assert "OUT_OF_MEMORY" in executor.ended[1]
    assert set(executor.asked) == {"squeue"}
