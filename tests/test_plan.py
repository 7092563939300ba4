"""The plan of a study: its jobs are those that Snakemake would run, and time is handed out to devices."""

import json
import re
from collections import Counter

import pytest
import yaml

from aftershock.budget import plan as module
from aftershock.budget.devices import find_device, read_devices, shipped
from aftershock.budget.needs import RULES
from aftershock.budget.plan import choose_device, make_plan, print_plan, show, summary, table, warnings
from aftershock.budget.schedule import Job, critical_path, makespan
from aftershock.budget.study import gpu_jobs
from benchmarks.calibrate import calibrate, write
from benchmarks.dag import synthetic
from configured import ROOT, study
from test_workflow import planned as planned_jobs
from test_workflow import planned_demo


def job(group, *after):
    return Job("edit", {}, group, after)


# --- time --------------------------------------------------------------------------------------------------
def test_jobs_wait_for_groups_and_devices_take_the_longest_first():
    jobs = [job("a"), job("a"), job("b", "a"), job("b", "a"), job("c", "b")]
    seconds = [3.0, 1.0, 2.0, 5.0, 4.0]
    assert makespan(jobs, seconds, 1) == sum(seconds)
    assert makespan(jobs, seconds, 2) == 3 + 5 + 4  # the short ones beside the long ones
    assert critical_path(jobs, seconds) == 12
    assert makespan([job("a"), job("a"), job("a")], [2.0, 2.0, 3.0], 2) == 4  # 3 first, and 2 after 2
    assert makespan([], [], 4) == 0
    assert makespan([job("a", "nothing makes this")], [1.0], 1) == 1


# --- jobs --------------------------------------------------------------------------------------------------
VARIANTS = {
    "embedded": {},
    "reduced": {
        "engine": {"precision": "tf32"},
        "seeds": [0, 1],
        "shards": {"cases": 32, "questions": 2},
        "mend": {"kinds": "separate"},
        "tuning": {"trials": 1},
    },
}


def counts_of(changes, folder):
    """Return the number of jobs of each rule for a changed embedded study."""
    (folder / "study.yaml").write_text(yaml.safe_dump({"study": "planned", **changes}), encoding="utf-8")
    return planned_jobs(folder, "--configfile", "study.yaml")


@pytest.mark.parametrize("name", VARIANTS)
def test_jobs_are_those_that_snakemake_would_run(name, tmp_path):
    counts = counts_of(VARIANTS[name], tmp_path) if VARIANTS[name] else planned_demo()
    wanted = {rule: n for rule, n in counts.items() if rule in RULES}
    assert Counter(job.rule for job in gpu_jobs(*study(**VARIANTS[name]))) == wanted


def test_jobs_have_the_wildcards_of_their_rules():
    """By which the records of finished jobs are found."""
    text = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = dict(re.findall(r"^rule (\w+):\n((?: .*\n|\n)+)", text, re.MULTILINE))
    planned = {job.rule: job for name in (None, "pitfalls") for job in gpu_jobs(*study(name))}
    assert planned.keys() >= {"edit", "train_mend", "run_task", "verify_facts"}
    for rule, job in planned.items():
        (outputs,) = re.findall(r"^    output:\n((?: {8}.*\n)+)", rules[rule], re.MULTILINE)
        assert set(re.findall(r"\{(\w+)\}", outputs)) == job.wildcards.keys(), rule


def test_jobs_are_told_apart_and_waited_for():
    for name in (None, "pitfalls", "labels"):
        jobs = gpu_jobs(*study(name))
        assert len({(job.rule, *sorted(job.wildcards.items())) for job in jobs}) == len(jobs)
        groups = {job.group for job in jobs}
        edits = [job for job in jobs if job.rule == "edit"]
        assert all(any("answers" in name for name in job.after if name in groups) for job in edits)


def test_the_largest_study_stays_below_two_thousand_jobs():
    assert len(gpu_jobs(*study("pitfalls"))) < 1500


# --- the plan ----------------------------------------------------------------------------------------------
def planned(name=None, device="h100-80gb", results=ROOT / "nowhere", **changes):
    config, models = study(name, **changes)
    return make_plan(config, models, ROOT, find_device(device), find_device("cpu"), results)


def test_a_plan_adds_up_and_counts_what_is_done(tmp_path):
    plan = planned("pitfalls")
    rows = table(plan, tmp_path)
    assert int(rows[-1][2]) == sum(int(row[2]) for row in rows[:-1]) == len(plan.jobs)
    assert float(rows[-1][4]) == pytest.approx(sum(plan.seconds) / 3600, abs=0.01)
    assert rows[-1][3] == "0"
    record = tmp_path / "results" / "jobs" / "edit" / "record.json"
    record.parent.mkdir(parents=True)
    for number, job in enumerate(plan.jobs[:4]):
        fields = {"rule": job.rule, "wildcards": job.wildcards, "outputs": [f"results/{number}"]}
        state = "done" if number < 3 else "failed"
        record.with_stem(str(number)).write_text(json.dumps({**fields, "state": state, "seconds": 1.0}))
        (tmp_path / "results" / str(number)).touch()
    assert table(plan, tmp_path)[-1][3] == "3"
    (tmp_path / "results" / "1").unlink()  # what a user deletes has to be made again
    assert table(plan, tmp_path)[-1][3] == "2"
    shown = show(rows).splitlines()
    assert len(shown) == len(rows) + 1
    assert "edit memit_mle_3  gpt-j-6b" in "\n".join(shown)


def test_more_devices_end_sooner_but_no_sooner_than_the_longest_chain():
    plan = planned("pitfalls")
    whole = sum(plan.seconds)
    chain = critical_path(plan.jobs, plan.seconds)
    assert max(chain, whole / 8) <= makespan(plan.jobs, plan.seconds, 8) < whole / 8 + chain
    first, second, *_ = summary(plan, 8)
    assert first.startswith("on 1 h100-80gb: ")
    assert second.startswith("on 8: ")
    assert any("assumed, from data sheets" in line for line in summary(plan, 8))


def test_tf32_and_a_faster_device_take_less():
    hours = {
        name: sum(planned("pitfalls", **changes).seconds)
        for name, changes in {
            "strict": {},
            "tf32": {"engine": {"precision": "tf32"}},
            "a100": {"device": "a100-80gb"},
        }.items()
    }
    assert hours["tf32"] < hours["strict"] < hours["a100"]


def test_what_stands_in_the_way_is_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    plan = planned("pitfalls", device="v100-32gb")
    plan.models["gpt2-xl"].pop("shape")
    said = "\n".join(warnings(plan))
    assert re.search(r"gpt-j-6b does not fit v100-32gb \(32 GB\): moments needs \d+ GB", said)
    assert "resources/models/gpt2-xl.yaml gives no `shape`" in said
    assert "gpt-j-6b: there is no wikipedia.txt yet" in said
    assert "1450000 facts to ask each model about" in said
    assert all("to ask each model about" in line for line in warnings(planned(device="cpu")))


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
    print_plan([], "cpu", 1, None, count=False)
    out = capsys.readouterr().out
    assert "edit rome" in out
    assert "on 1 cpu: " in out
    with pytest.raises(ValueError, match="device 'h100-80' is unknown; did you mean 'h100-80gb'?"):
        print_plan([], "h100-80", 1, None, count=False)
    with pytest.raises(ValueError, match="there is no study nowhere.yaml"):
        print_plan(["nowhere.yaml"], None, 1, None, count=False)


@pytest.mark.thorough  # what it is made of is tried with the benchmarks
def test_the_machine_is_measured_in_the_form_of_a_device(tmp_path):
    entry = calibrate("cpu", quick=True)
    write(entry, tmp_path / "device.yaml")
    device = read_devices(tmp_path / "device.yaml")["cpu"]
    assert device.measured
    assert not device.accelerator
    assert set(device.rates) == {"strict", "tf32", "bf16", "float64"}
    assert all(rate > 0 for rate in device.rates.values())


def test_a_synthetic_study_is_about_as_large_as_it_is_asked_to_be():
    changes = {key: value for key, value in synthetic(3000).items() if key != "study"}
    jobs = gpu_jobs(*study(**changes))
    scores = sum(job.rule == "edit" for job in jobs) / 50
    assert len(jobs) + scores == pytest.approx(3000, rel=0.15)
