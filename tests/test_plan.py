"""The plan of a study: its jobs are those of Snakemake, and its times add up and are near what jobs took."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from aftershock.budget import plan as module
from aftershock.budget.devices import find_device, read_devices, shipped
from aftershock.budget.needs import RULES, Needs
from aftershock.budget.plan import (
    LEAST_JOBS,
    Plan,
    choose_device,
    make_plan,
    print_plan,
    scale_plan,
    summary,
    table,
    warnings,
)
from aftershock.jobs.dag import Job, longest_chain, planned_jobs
from benchmarks.calibrate import calibrate, write
from benchmarks.dag import synthetic
from configured import ROOT, jobs_of, study
from test_workflow import planned_demo

SMALL = {
    "cases": {"quotas": {"test": dict.fromkeys(("coverage", "reverse", "composite", "round_easy"), 64)}},
    "shards": {"questions": 2},
    "datasets": ["coverage", "round_easy"],
}
"""Changes of the largest study that leave it few jobs."""
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


def planned(name: str | None = "pitfalls", device: str = "h100-80gb", **changes: Any) -> Plan:
    reduced = SMALL if name else {}
    config, models = study(name, **reduced | changes)
    needs = Needs(config, models, ROOT, find_device(device))
    return make_plan(needs, jobs_of(name, **reduced), ROOT / "nowhere")


def demo(folder: Path = ROOT / "nowhere", device: str = "cpu") -> Plan:
    config, models = study()
    return make_plan(Needs(config, models, ROOT, find_device(device)), jobs_of(), folder)


def stages(plan: Plan) -> dict[str, float]:
    names = (plan.estimates["rule"] + " " + plan.estimates["editor"]).str.strip()
    return plan.estimates["seconds"].groupby(names).sum().to_dict()


def finish(plan: Plan, folder: Path, seconds: list[float]) -> None:
    """Write the records of the first jobs, as if they had taken these seconds."""
    for number, took in zip(plan.estimates.index, seconds, strict=False):
        job = plan.jobs[number]
        record = folder / "results" / "jobs" / job.rule / f"{number}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        (folder / "results" / str(number)).touch()
        fields = {"rule": job.rule, "wildcards": job.wildcards, "outputs": [f"results/{number}"]}
        record.write_text(json.dumps({**fields, "state": "done", "seconds": took}))


# --- jobs --------------------------------------------------------------------------------------------------
def test_the_longest_chain_ends_last():
    jobs = [Job("edit", {}, after) for after in ((), (), (0,), (0, 1), (2, 3))]
    assert longest_chain(jobs, [3.0, 1.0, 2.0, 5.0, 4.0]) == 12
    assert longest_chain(jobs[:2], [3.0, 1.0]) == 3
    assert longest_chain([], []) == 0


def test_jobs_are_those_that_snakemake_would_run():
    jobs = jobs_of()
    assert {rule: sum(job.rule == rule for job in jobs) for rule in planned_demo()} == planned_demo()
    assert all(job.runs and all(before < i for before in job.after) for i, job in enumerate(jobs))
    scored = {job.rule for job in jobs if job.rule not in RULES}
    assert {"report", "score", "sample_facts"} <= scored


def test_a_study_that_cannot_be_planned_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("editors: {gone: {method: gone.py}}\n")
    with pytest.raises(ValueError, match="(?s)Snakemake cannot plan the study: .*gone.py"):
        planned_jobs(["mine.yaml"])


# --- the plan ----------------------------------------------------------------------------------------------
def test_a_plan_adds_up():
    plan = planned()
    rows = table(plan)
    assert int(rows[-1][2]) == sum(int(row[2]) for row in rows[:-1]) == len(plan.estimates)
    assert float(rows[-1][4]) == pytest.approx(sum(plan.estimates["seconds"]) / 3600, abs=0.01)
    assert ("edit memit_mle_3", "gpt-j-6b") in {row[:2] for row in rows}
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), key=["gpt2-xl", "gpt-j-6b", ""].index)


def test_what_is_done_is_said_and_beside_the_estimate_stands_what_it_took(tmp_path):
    plan = demo(tmp_path)
    n = len(plan.estimates)
    assert next(summary(plan, 1)).count(";") == 0
    assert (table(plan)[-1][3], table(plan)[-1][5]) == ("0", "-")
    finish(plan, tmp_path, [7200.0] * 4)
    deleted, failed = plan.estimates.index[:2]
    (tmp_path / "results" / str(deleted)).unlink()  # what a user deletes has to be made again
    record = tmp_path / "results" / "jobs" / plan.jobs[failed].rule / f"{failed}.json"
    record.write_text(record.read_text().replace("done", "failed"))
    begun = demo(tmp_path)
    assert re.search(rf"; 2 of {n} jobs are done, \d+ \w+ are left$", next(summary(begun, 1)))
    rows = table(begun)
    assert (rows[-1][3], float(rows[-1][5])) == ("2", 4.0)
    finish(plan, tmp_path, [7200.0] * n)
    done = demo(tmp_path)
    assert next(summary(done, 1)).endswith(f"; {n} of {n} jobs are done, 0 s are left")
    counted = Counter(plan.estimates["rule"])["baseline"]
    (row,) = (row for row in table(done) if row[0] == "baseline")
    assert (row[3], float(row[5])) == (str(counted), 2.0 * counted)


def test_more_devices_end_sooner_but_no_sooner_than_the_longest_chain():
    plan = planned()
    lines = [list(summary(plan, n)) for n in (2, 1000)]
    assert lines[0][0].startswith("on 1 h100-80gb: ")
    assert lines[0][1].startswith("on 2: ")
    (chain,) = re.findall("longest chain of jobs takes (.*)", lines[1][1])
    assert lines[1][1].startswith(f"on 1000: {chain} at least; ")
    assert any("assumed, from data sheets" in line for line in lines[0])


def test_tf32_and_a_faster_device_take_less():
    hours = {
        name: sum(planned(**changes).estimates["seconds"])
        for name, changes in {
            "strict": {},
            "tf32": {"engine": {"precision": "tf32"}},
            "a100": {"device": "a100-80gb"},
        }.items()
    }
    assert hours["tf32"] < hours["strict"] < hours["a100"]


def test_what_stands_in_the_way_is_said():
    plan = planned(device="v100-32gb")
    plan.needs.models["gpt2-xl"].pop("shape")
    said = "\n".join(warnings(plan))
    assert re.search(r"gpt-j-6b does not fit v100-32gb \(32 GB\): moments needs \d+ GB", said)
    assert "resources/models/gpt2-xl.yaml gives no `shape`" in said
    assert "1450000 facts to ask each model about" in said
    assert all("to ask each model about" in line for line in warnings(planned(None, device="cpu")))


def test_measured_figures_are_taken_for_the_device_of_that_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    entry = yaml.safe_load(module.PROJECT.joinpath("resources/devices.yaml").read_text(encoding="utf-8"))
    mine = entry["h100-80gb"] | {"measured": True, "pass_seconds": 1.0}
    assert choose_device("h100-80gb") == shipped()["h100-80gb"]
    write({"h100-80gb": mine}, tmp_path / module.BENCH)
    assert choose_device("h100-80gb").measured
    assert choose_device("h100-80gb").pass_seconds == 1.0


def test_a_plan_is_printed_or_one_error_raised(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    print_plan([], "cpu", 1)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["stage", "model", "jobs", "done"]
    (edited,) = (line for line in lines if line.startswith("edit rome "))
    assert edited.split()[2:5] == ["demo-4x128", "5", "0"]
    assert len(edited) == len(lines[0])  # columns are aligned
    assert "on 1 cpu: " in out
    with pytest.raises(ValueError, match="device 'h100-80' is unknown; did you mean 'h100-80gb'?"):
        print_plan([], "h100-80", 1)
    with pytest.raises(ValueError, match="there is no study nowhere.yaml"):
        print_plan(["nowhere.yaml"], None, 1)


@pytest.mark.thorough  # what it is made of is tried with the benchmarks
def test_the_machine_is_measured_in_the_form_of_a_device(tmp_path):
    entry = calibrate("cpu", quick=True)
    write(entry, tmp_path / "device.yaml")
    device = read_devices(tmp_path / "device.yaml")["cpu"]
    assert device.measured
    assert not device.accelerator
    assert set(device.tflops) == {"strict", "tf32", "bf16", "float64"}
    assert all(rate > 0 for rate in device.tflops.values())


def test_a_synthetic_study_is_about_as_large_as_it_is_asked_to_be():
    jobs = [job for job in jobs_of(**synthetic(3000)) if job.rule in RULES | {"score"}]
    assert len(jobs) == pytest.approx(3000, rel=0.15)


# --- beside what jobs took ---------------------------------------------------------------------------------
def test_estimates_of_the_embedded_default_are_near_what_its_stages_took():
    found = stages(demo())
    assert set(found) == set(TOOK)
    ratios = {stage: found[stage] / took for stage, took in TOOK.items()}
    assert all(0.7 < ratio < 1.4 for ratio in ratios.values()), ratios


def test_stages_are_scaled_by_what_they_took_or_their_rule_or_else_by_all(tmp_path):
    plan, slower = demo(), {"edit": 3.0, "baseline": 0.5}
    finish(plan, tmp_path, [row.seconds * slower.get(row.rule, 2.0) for row in plan.estimates.itertuples()])
    found = demo(tmp_path)
    scale_plan(found)
    assert found.scaled_by == len(plan.estimates)
    wanted = {name: took * slower.get(name.split()[0], 2.0) for name, took in stages(plan).items()}
    assert stages(found) == pytest.approx(wanted)
    for row in plan.estimates.itertuples():
        if row.rule == "baseline" or (row.rule, row.editor) == ("edit", "rome"):
            (tmp_path / "results" / "jobs" / row.rule / f"{row.Index}.json").unlink()
    found = demo(tmp_path)
    scale_plan(found)
    ratio = {name: seconds / stages(plan)[name] for name, seconds in stages(found).items()}
    assert (ratio["edit rome"], ratio["edit ft"]) == pytest.approx((3, 3))
    assert 2 < ratio["baseline"] < 3


def test_few_jobs_and_those_of_another_device_change_nothing(tmp_path):
    plan = demo()
    for number, device in ((LEAST_JOBS - 1, "cpu"), (len(plan.estimates), "h100-80gb")):
        finish(plan, tmp_path, [2 * each for each in plan.estimates["seconds"]][:number])
        found = demo(tmp_path, device)
        before = stages(found)
        scale_plan(found)
        assert (found.scaled_by, stages(found)) == (0, before)
