"""The plan of a study: its jobs are those of Snakemake, and their times add up."""

import json
import re

import pytest
import yaml

from aftershock.budget import plan as module
from aftershock.budget.devices import find_device, read_devices, shipped
from aftershock.budget.needs import RULES, Needs
from aftershock.budget.plan import choose_device, make_plan, print_plan, summary, table, warnings
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


def planned(name="pitfalls", device="h100-80gb", results=ROOT / "nowhere", **changes):
    reduced = SMALL if name else {}
    config, models = study(name, **reduced | changes)
    jobs = jobs_of(name, **reduced)
    needs = Needs(config, models, ROOT, find_device(device))
    return make_plan(needs, jobs, find_device("cpu"), results)


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
def test_a_plan_adds_up_and_counts_what_is_done(tmp_path):
    plan = planned(results=tmp_path)
    rows, seconds = table(plan), plan.estimates["seconds"]
    assert int(rows[-1][2]) == sum(int(row[2]) for row in rows[:-1]) == len(plan.estimates)
    assert float(rows[-1][4]) == pytest.approx(sum(seconds) / 3600, abs=0.01)
    assert rows[-1][3] == "0"
    record = tmp_path / "results" / "jobs" / "edit" / "record.json"
    record.parent.mkdir(parents=True)
    for number, job in enumerate([job for job in plan.jobs if job.rule in RULES][:4]):
        fields = {"rule": job.rule, "wildcards": job.wildcards, "outputs": [f"results/{number}"]}
        state = "done" if number < 3 else "failed"
        record.with_stem(str(number)).write_text(json.dumps({**fields, "state": state, "seconds": 1.0}))
        (tmp_path / "results" / str(number)).touch()
    assert table(planned(results=tmp_path))[-1][3] == "3"
    (tmp_path / "results" / "1").unlink()  # what a user deletes has to be made again
    assert table(planned(results=tmp_path))[-1][3] == "2"
    assert ("edit memit_mle_3", "gpt-j-6b") in {row[:2] for row in rows}
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), key=["gpt2-xl", "gpt-j-6b", ""].index)


def test_more_devices_end_sooner_but_no_sooner_than_the_longest_chain():
    plan = planned()
    lines = [list(summary(plan, n)) for n in (2, 1000)]
    assert lines[0][0].startswith("on 1 h100-80gb: ")
    assert lines[0][1].startswith("on 2: ")
    assert "100% busy" in lines[0][1]
    (chain,) = re.findall("wait for each other takes (.*)", lines[1][1])
    assert lines[1][1].startswith(f"on 1000: {chain} at least, ")
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


def test_what_stands_in_the_way_is_said(monkeypatch, tmp_path):
    plan = planned(device="v100-32gb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    plan.needs.models["gpt2-xl"].pop("shape")
    said = "\n".join(warnings(plan))
    assert re.search(r"gpt-j-6b does not fit v100-32gb \(32 GB\): moments needs \d+ GB", said)
    assert "resources/models/gpt2-xl.yaml gives no `shape`" in said
    assert "gpt-j-6b: there is no wikipedia.txt yet" in said
    assert "1450000 facts to ask each model about" in said
    monkeypatch.undo()
    assert all("to ask each model about" in line for line in warnings(planned(None, device="cpu")))


def test_measured_figures_are_taken_for_the_device_of_that_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    entry = yaml.safe_load(module.PROJECT.joinpath("resources/devices.yaml").read_text(encoding="utf-8"))
    mine = entry["h100-80gb"] | {"measured": True, "pass_seconds": 1.0}
    write({"h100-80gb": mine}, tmp_path / "mine.yaml")
    assert choose_device("h100-80gb", None) == shipped()["h100-80gb"]
    assert choose_device("h100-80gb", tmp_path / "mine.yaml").pass_seconds == 1.0
    write({"h100-80gb": mine}, tmp_path / module.BENCH)
    assert choose_device("h100-80gb", None).measured
    with pytest.raises(ValueError, match="there is no calibration elsewhere.yaml; make bench writes"):
        choose_device("h100-80gb", tmp_path.__class__("elsewhere.yaml"))


def test_a_plan_is_printed_or_one_error_raised(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    print_plan([], "cpu", 1, None)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["stage", "model", "jobs", "done"]
    (edited,) = (line for line in lines if line.startswith("edit rome "))
    assert edited.split()[2:5] == ["demo-4x128", "5", "0"]
    assert len(edited) == len(lines[0])  # columns are aligned
    assert "on 1 cpu: " in out
    with pytest.raises(ValueError, match="device 'h100-80' is unknown; did you mean 'h100-80gb'?"):
        print_plan([], "h100-80", 1, None)
    with pytest.raises(ValueError, match="there is no study nowhere.yaml"):
        print_plan(["nowhere.yaml"], None, 1, None)


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
