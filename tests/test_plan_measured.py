"""A plan beside what jobs took: estimates of the embedded default, scaled by finished jobs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aftershock.budget.cost import Costs
from aftershock.budget.devices import find_device
from aftershock.budget.needs import Needs
from aftershock.budget.plan import LEAST_JOBS, Plan, make_plan, scale_plan, summary, table
from configured import ROOT, jobs_of, study

TOOK = {
    **{"train_lm": 65.4, "moments": 3.3, "verify_facts": 5.8, "score_objects": 1.9, "train_mend": 31.4},
    **{"tune ft": 1.8, "tune memit": 4.2, "tune rome": 4.7, "baseline": 4.7},
    **{"edit ft": 14.6, "edit rome": 36.5, "edit memit": 35.5, "edit mend": 13.6, "edit memit_mle": 12.2},
    **{"probe_unedited": 0.8, "run_task_unedited": 2.0, "run_task rome": 3.2, "run_task memit": 3.2},
    **{"edit_sequence rome": 8.6, "probe_sequence rome": 0.9},
    **{"edit_sequence memit": 6.9, "probe_sequence memit": 1.0},
}
"""Seconds of each stage of the embedded default on two threads of an AMD EPYC with AVX2, all its jobs
together."""


def planned(folder: Path = Path("nowhere"), device: str = "cpu", **changes: Any) -> Plan:
    config, models = study(**changes)
    needs = Needs(config, models, ROOT, find_device(device))
    return make_plan(needs, jobs_of(), find_device("cpu"), folder)


def stages(plan: Plan) -> dict[str, float]:
    names = (plan.estimates["rule"] + " " + plan.estimates["editor"]).str.strip()
    return plan.estimates["seconds"].groupby(names).sum().to_dict()


def finish(plan: Plan, folder: Path, seconds: list[float], only: slice = slice(None)) -> None:
    """Write the records of some jobs, as if they had taken these seconds."""
    for number, took in list(zip(plan.estimates.index, seconds, strict=True))[only]:
        job = plan.jobs[number]
        record = folder / "results" / "jobs" / job.rule / f"{number}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        fields = {"rule": job.rule, "wildcards": job.wildcards, "state": "done", "seconds": took}
        record.write_text(json.dumps(fields))


def test_estimates_of_the_embedded_default_are_near_what_its_stages_took() -> None:
    found = stages(planned())
    assert set(found) == set(TOOK)
    ratios = {stage: found[stage] / took for stage, took in TOOK.items()}
    assert all(0.7 < ratio < 1.4 for ratio in ratios.values()), ratios


def test_stages_are_scaled_by_what_their_finished_jobs_took(tmp_path: Path) -> None:
    plan, slower = planned(), {"edit": 3.0, "baseline": 0.5}
    real = [row.seconds * slower.get(row.rule, 2.0) for row in plan.estimates.itertuples()]
    finish(plan, tmp_path, real)
    found = planned(tmp_path)
    scale_plan(found)
    assert found.scaled_by == len(plan.estimates)
    wanted = {name: took * slower.get(name.split()[0], 2.0) for name, took in stages(plan).items()}
    assert stages(found) == pytest.approx(wanted)


def test_what_is_not_begun_is_scaled_by_its_rule_or_else_by_all(tmp_path: Path) -> None:
    plan = planned()
    rows = list(plan.estimates.itertuples())
    factors = [3.0 if row.rule == "edit" else 1.0 for row in rows]
    finish(plan, tmp_path, [row.seconds * factor for row, factor in zip(rows, factors, strict=True)])
    folder = tmp_path / "results" / "jobs"
    for row in rows:
        if row.rule == "baseline" or (row.rule, row.editor) == ("edit", "rome"):
            (folder / row.rule / f"{row.Index}.json").unlink()
    found = planned(tmp_path)
    scale_plan(found)
    ratio = {name: seconds / stages(plan)[name] for name, seconds in stages(found).items()}
    assert ratio["edit rome"] == pytest.approx(3)
    assert ratio["edit ft"] == pytest.approx(3)
    assert 1 < ratio["baseline"] < 3


def test_few_jobs_and_those_of_another_device_change_nothing(tmp_path: Path) -> None:
    plan = planned()
    seconds = [2 * each for each in plan.estimates["seconds"]]
    finish(plan, tmp_path, seconds, slice(LEAST_JOBS - 1))
    few = planned(tmp_path)
    scale_plan(few)
    assert (few.scaled_by, stages(few)) == (0, stages(plan))
    finish(plan, tmp_path, seconds)
    other = planned(tmp_path, "h100-80gb")
    before = stages(other)
    scale_plan(other)
    assert (other.scaled_by, stages(other)) == (0, before)


def test_what_is_done_is_said_and_beside_the_estimate_stands_what_it_took(tmp_path: Path) -> None:
    plan = planned()
    n = len(plan.estimates)
    assert next(summary(plan, 1)).count(";") == 0
    finish(plan, tmp_path, [7200.0] * n, slice(0, 3))
    begun = planned(tmp_path)
    assert next(summary(begun, 1)).endswith(f" are left: 3 of {n} jobs are done")
    rows = table(begun)
    assert (rows[-1][3], float(rows[-1][5])) == ("3", 6.0)
    finish(plan, tmp_path, [7200.0] * n)
    done = planned(tmp_path)
    assert next(summary(done, 1)).endswith(f"; all {n} jobs are done")
    counted = Counter(plan.estimates["rule"])["baseline"]
    (row,) = (row for row in table(done) if row[0] == "baseline")
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
