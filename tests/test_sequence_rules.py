"""The rules of sequences: edits are listed, and a plan that is added re-runs nothing."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

import started
from aftershock.budget.cost import Costs
from aftershock.budget.devices import find_device
from aftershock.budget.needs import Needs
from aftershock.config.sequences import plans_of
from aftershock.schema import fill_defaults, read_schema
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_PROBES
from configured import ROOT, jobs_of, study
from tiers import some

ROWS = [
    {"subject": name, "prompt": f"The home of {name} is", "target_new": "Oslo", "ground_truth": "Turin"}
    for name in ("Ann", "Bo", "Cy", "Ann", "Di")
]
FILE = {"source": "flat", "file": "edits.json"}
STUDY = {
    "kg": "texts",
    "kgs": {"texts": {"source": "none"}},
    "datasets": [],
    "models": ["smollm2-135m"],
    "editors": {"mend": None, "memit_mle": None},
    "report": {"bars": []},
    "shards": {"device": "cpu"},
    "sequences": {"one": {"edits": FILE, "checkpoints": [0, 2], "orders": [0, 1]}},
}
LISTED = "results/texts/smollm2-135m/sequences/{}/edits.parquet"


def snakemake(folder: Path, config: dict, *arguments: str) -> str:
    (folder / "study.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    options = ("--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "--configfile", "study.yaml")
    done = started.snakemake(folder, *options, *arguments, XDG_CACHE_HOME=str(folder / "cache"))
    assert not done.returncode, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def counts(said: str) -> dict[str, int]:
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE)}


def test_edits_are_listed_and_another_plan_makes_only_its_own(tmp_path):
    (tmp_path / "edits.json").write_text(json.dumps(ROWS))
    said = snakemake(tmp_path, STUDY, "--", LISTED.format("one"))
    assert "one: 2 edits" in said
    folder = (tmp_path / LISTED.format("one")).parent
    assert list(SEQUENCE_EDITS.read(folder / "edits.parquet")["subject"]) == ["Ann", "Bo"]
    asked = SEQUENCE_PROBES.read(folder / "probes.parquet")["prompt"]
    assert list(asked) == ["The home of Ann is", "The home of Bo is"]
    more = {**STUDY, "sequences": STUDY["sequences"] | {"two": {"edits": FILE, "checkpoints": [0, 4]}}}
    targets = (LISTED.format("one"), LISTED.format("two"))
    found = counts(snakemake(tmp_path, more, "--dry-run", "--quiet", "rules", "--", *targets))
    assert {rule: n for rule, n in found.items() if rule != "total"} == {"list_edits": 1}


def test_the_plan_of_the_embedded_default_is_for_its_graph_alone():
    def plans(**changes):
        return set(plans_of(study(**changes)[0]))

    assert plans() == {"hundred"}
    other = {"source": "generated", "namespace": "world", "file": "resources/world.yaml", "seed": 1}
    assert plans(kg="other", kgs={"other": other}) == set()


PLAN = {"edits": {"source": "graph"}, "checkpoints": [0, 10, 20, 100], "orders": [0, 1]}
PLAN |= {"editors": ["rome", "ft"], "tasks": ["boolq", "edited_facts"]}


def checked(**changes):
    """Fill in a plan's defaults, as checking a configuration does."""
    plans = {"hundred": None, "one": PLAN | changes}
    config, models = study(sequences=plans, abilities={"checkpoints_per_job": 2, "items": 100}, datasets=[])
    fill_defaults(config, read_schema("config"))
    return config, models


AMONG = {"datasets": ["coverage", "round_easy"], "quota": 40}
AMONG |= {"before": [0, 10], "between": [0, 100], "after": []}


def need(rule: str, editor: str = "rome", among: dict | None = None, **changes):
    config, models = checked(**changes)
    config["datasets"] = AMONG["datasets"] if among else []
    job = {"model": "demo-4x128", "plan": "one", "editor": editor}
    job |= among or {"task": "boolq", "checkpoints": "00010-00020"}
    return Needs(config, models, ROOT).need(rule, job)


def test_jobs_of_a_plan_by_hand_and_what_they_wait_for():
    plans = {"hundred": None, "one": PLAN | {"cases": AMONG}}
    abilities = {"checkpoints_per_job": 2, "items": 100, "tasks": None}
    jobs = jobs_of(sequences=plans, abilities=abilities, datasets=AMONG["datasets"])
    found = Counter(job.rule for job in jobs)
    logs, groups, tasks = 2 * 2, 2, 2
    wanted = {
        "probe_unedited": 1,
        "edit_sequence": logs,
        "probe_sequence": logs * groups,
        "run_task": logs * groups * tasks,
        "run_task_unedited": 1,
        "run_task_of_edits_unedited": 1,
    }
    assert {rule: found[rule] for rule in wanted} == wanted
    among = [job for job in jobs if job.rule == "edit_among"]
    quotas = study()[0]["cases"]["quotas"]["test"]
    blocks = sum(-(-min(40, quotas[name]) // 32) for name in AMONG["datasets"])
    assert len(among) == 2 * 2 * 2 * blocks  # places, editors, orders

    def waits(job):
        return any(jobs[i].rule == "edit_sequence" for i in job.after)

    assert all(waits(job) == (job.wildcards["place"] == "before") for job in among)
    assert all(waits(job) for job in jobs if job.rule in ("probe_sequence", "run_task"))


def test_edits_that_follow_those_of_a_case_cost_as_much_as_they_are_many():
    def among(place, **changes):
        where = {"place": place, "dataset": "coverage", "shard": "00000-00031"}
        return need("edit_among", among=where, cases=AMONG | changes)

    def flops(place, **changes):
        return among(place, **changes).work.flops

    twice, once = flops("between", between=[20]), flops("between", between=[10])
    none = flops("between", between=[0])
    assert twice - none == pytest.approx(2 * (once - none))
    assert flops("before", before=[100]) == flops("before", before=[10])  # from a log
    assert among("before").disk == 2 * among("before", before=[10]).disk


def test_a_log_of_rank_one_edits_has_two_vectors_each():
    config, models = checked()
    settings = Costs(config, models["demo-4x128"], find_device("cpu"))._editing("rome").settings
    d = models["demo-4x128"]["architecture"]["n_embd"]
    assert need("edit_sequence").disk == 100 * len(settings.layers) * (d + 4 * d) * 4


def test_editing_grows_with_edits_and_asking_with_checkpoints():
    once, twice = need("edit_sequence").work, need("edit_sequence", checkpoints=[0, 200]).work
    assert twice.flops == 2 * once.flops
    one, two = need("run_task", checkpoints=[0, 10, 100]), need("run_task")
    assert two.work.flops == 2 * one.work.flops
    assert two.disk == 2 * one.disk


def test_whole_matrices_are_kept_at_checkpoints_only():
    many, few = (need("edit_sequence", "ft", checkpoints=[0, last]) for last in (1000, 9))
    assert many.disk == few.disk


def test_a_graph_and_a_model_that_no_plan_uses_have_no_job_and_need_no_file(tmp_path):
    (tmp_path / "edits.json").write_text(json.dumps(ROWS))
    (tmp_path / "resources" / "models").mkdir(parents=True)
    model = {"source": {"hub": "o/n", "revision": "abc"}, "model_type": "gpt2", "n_layers": 2}
    (tmp_path / "resources" / "models" / "used.yaml").write_text(yaml.safe_dump(model))
    plan = {"edits": FILE, "checkpoints": [0, 2], "models": ["used"], "editors": ["ft"]}
    changes = {
        "kg": "gone",
        "kgs": {"gone": {"source": "ntriples", "namespace": "wikidata", "file": "gone.nt"}, "world": None},
        "models": ["used", "without_a_file"],
        "editors": {"more": {"method": "gone.py"}},
        "screen": {"words": "gone.txt"},
        "sequences": {"one": plan, "hundred": None},
        "abilities": {"tasks": None},
        "tuning": {"trials": 1},
    }
    said = snakemake(tmp_path, STUDY | changes, "--dry-run")
    found = counts(said)
    assert {"list_edits", "fetch_model", "edit_sequence"} <= set(found)
    assert not {"load_kg", "sample_facts", "filter_facts", "tune", "moments", "train_lm"} & set(found)
    assert found["fetch_model"] == found["edit_sequence"] == 1


ZSRE = {"subject": "{}", "src": "Where does {} live?", "alt": "Oslo", "answers": ["Turin"]}
ZSRE |= {"rephrase": "{}'s home?", "loc": "nq question: who sang it", "loc_ans": "Ann"}
FLAT = {"subject": "{}", "prompt": "The home of {} is", "target_new": "Oslo", "ground_truth": "Turin"}


@pytest.mark.parametrize(
    "name", some(["hurt-abilities", "should-we-edit", "why-studies-differ", "why-laptop"], ["hurt-abilities"])
)
def test_a_shipped_study_of_published_edits_can_be_planned(tmp_path, name):
    """Models that methods need are trained on a file of edits, where there is no graph."""
    for file, row in (("zsre", ZSRE), ("zsre_mend_train", ZSRE), ("counterfact-edit", FLAT)):
        rows = [json.dumps(row).replace("{}", f"P {i}") for i in range(1000)]
        (tmp_path / f"{file}.json").write_text(f"[{','.join(rows)}]")
    (tmp_path / "wikipedia.txt").write_text("A text.")
    study = yaml.safe_load((ROOT / "resources" / "studies" / f"{name}.yaml").read_text())
    study["abilities"] |= {"tasks": ["sst2"], "data": None, "switches": {}}
    found = counts(snakemake(tmp_path, study, "--dry-run", "--quiet", "rules"))
    assert found["train_mend"] == {"hurt-abilities": 2, "should-we-edit": 3}.get(name, 1)
