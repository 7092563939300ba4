"""A plan beside what jobs took: estimates of the embedded default, and figures that finished jobs explain."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aftershock.budget.cost import Costs
from aftershock.budget.devices import find_device
from aftershock.budget.measured import LEAST_JOBS, fit_device
from aftershock.budget.plan import Plan, fit_plan, make_plan, summary, table
from configured import ROOT, study

TOOK = {
    **{"train_lm": 155.5, "moments": 7.9, "verify_facts": 18.7, "score_objects": 5.4, "train_mend": 102.3},
    **{"tune ft": 7.3, "tune memit": 24.1, "tune rome": 20.1, "baseline": 14.7},
    **{"edit ft": 50.3, "edit rome": 132.2, "edit memit": 151.3, "edit mend": 48.2, "edit memit_mle": 45.3},
    **{"probe_unedited": 2.1, "run_task_unedited": 5.9, "run_task rome": 9.8, "run_task memit": 10.2},
    **{"edit_sequence rome": 43.3, "probe_sequence rome": 3.1},
    **{"edit_sequence memit": 37.3, "probe_sequence memit": 3.2},
}
"""Seconds of each stage of the embedded default on two threads of an AMD EPYC, all its jobs together."""
AS_IT_WAS = {"tuning": {"trials": 4}, "mend": {"settings": {"steps": 250, "patience": 250}}}
"""Settings of the embedded default when it took that long."""


def planned(**changes: Any) -> Plan:
    return make_plan(*study(**changes), ROOT, find_device("cpu"), find_device("cpu"), ROOT / "nowhere")


def stages(plan: Plan) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for job, seconds in zip(plan.jobs, plan.seconds, strict=True):
        found[f"{job.rule} {job.wildcards.get('editor', '')}".strip()] += seconds
    return dict(found)


def finish(plan: Plan, folder: Path, seconds: list[float], jobs: slice = slice(None)) -> None:
    """Write the records of some jobs, as if they had taken these seconds."""
    for number, (job, took) in list(enumerate(zip(plan.jobs, seconds, strict=True)))[jobs]:
        record = folder / "results" / "jobs" / job.rule / f"{number}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        fields = {"rule": job.rule, "wildcards": job.wildcards, "state": "done", "seconds": took}
        record.write_text(json.dumps(fields))


def test_estimates_of_the_embedded_default_are_near_what_its_stages_took() -> None:
    found = stages(planned(**AS_IT_WAS))
    assert set(found) == set(TOOK)
    ratios = {stage: found[stage] / took for stage, took in TOOK.items()}
    assert all(0.7 < ratio < 1.4 for ratio in ratios.values()), ratios


def test_figures_are_found_again_by_what_jobs_took(tmp_path: Path) -> None:
    plan, shipped = planned(), find_device("cpu")
    rates = {name: rate * 3 for name, rate in shipped.rates.items()}
    figures = {"rates": rates, "bandwidth": shipped.bandwidth / 2, "start_seconds": 4.0, "read": 1e18}
    here = replace(shipped, pass_seconds=0.004, row_seconds=1e-4, **figures)
    real = replace(plan, device=here, host=here)
    finish(plan, tmp_path, real.seconds)
    fit_plan(plan, tmp_path)
    assert plan.fitted == len(plan.jobs) - 1  # a training is shared by processes
    wanted, found = stages(real), stages(plan)
    assert found == pytest.approx(wanted, rel=0.05)
    assert plan.device.rates["strict"] == pytest.approx(here.rates["strict"], rel=0.2)
    assert plan.device.pass_seconds == pytest.approx(0.004, rel=0.2)


def test_few_jobs_and_those_of_another_device_change_no_figure(tmp_path: Path) -> None:
    plan = planned()
    finish(plan, tmp_path, plan.seconds, slice(LEAST_JOBS - 1))
    fit_plan(plan, tmp_path)
    assert (plan.fitted, plan.device) == (0, find_device("cpu"))
    assert fit_device(plan.device, plan.needs[:20], ["edit"] * 20, plan.seconds[:20]) is None
    finish(plan, tmp_path, plan.seconds)
    plan.device = find_device("h100-80gb")
    fit_plan(plan, tmp_path)
    assert (plan.fitted, plan.device) == (0, find_device("h100-80gb"))


def test_what_is_done_is_said_and_beside_the_estimate_stands_what_it_took(tmp_path: Path) -> None:
    plan = planned()
    assert summary(plan, 1, tmp_path)[0].count(";") == 0
    finish(plan, tmp_path, [7200.0] * len(plan.jobs), slice(0, 3))
    first = summary(plan, 1, tmp_path)[0]
    assert first.endswith(f" are left: 3 of {len(plan.jobs)} jobs are done")
    rows = table(plan, tmp_path)
    assert (rows[-1][3], float(rows[-1][5])) == ("3", 6.0)
    finish(plan, tmp_path, [7200.0] * len(plan.jobs))
    assert summary(plan, 1, tmp_path)[0].endswith(f"; all {len(plan.jobs)} jobs are done")
    counted = Counter(job.rule for job in plan.jobs)["baseline"]
    (row,) = (row for row in table(plan, tmp_path) if row[0] == "baseline")
    assert (row[3], float(row[5])) == (str(counted), 2.0 * counted)


def test_a_training_is_shared_by_as_many_processes_as_a_batch_has_parts() -> None:
    config, models = study()
    model = models["demo-4x128"]
    alone, shared = (
        Costs(config, model | {"train": model["train"] | {"parts": n}}, find_device("cpu")).train_lm()
        for n in (1, 4)
    )
    assert shared.work.flops == pytest.approx(alone.work.flops / 4)
    assert shared.host > alone.host
