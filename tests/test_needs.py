"""Requests of jobs to a scheduler, the GPU that holds a model, and the division of studies into jobs."""

import re
from dataclasses import replace

import pytest
import yaml

from aftershock.budget import needs as module
from aftershock.budget.cost import Need
from aftershock.budget.devices import GB, SHIPPED, choose_gpu, find_device, read_devices, shipped
from aftershock.budget.needs import FLOOR_MB, FLOOR_MINUTES, MARGIN, RULES, Needs, most_asked, shard_sizes
from aftershock.budget.work import Work
from aftershock.config import check_config
from aftershock.config.run import device_errors
from aftershock.config.shards import number_of_cases, shard_ranges
from aftershock.kg.sheets import one_to_many_relations
from configured import ROOT, study

LADDER = {32 * 2**i for i in range(12)}
EDIT = {"kg": "wdqs", "dataset": "coverage", "seed": "0", "shard": "00000-00127"}


def needs(name=None, **changes):
    config, models = study(name, **changes)
    return Needs(config, models, ROOT)


def test_a_small_model_asks_for_the_floor_and_more_after_a_failure():
    demo = needs()
    job = EDIT | {"kg": "world", "model": "demo-4x128", "editor": "rome"}
    asked = [demo.of("edit", "mem_mb", job, attempt) for attempt in (1, 2, 3)]
    assert asked == [FLOOR_MB, 2 * FLOOR_MB, 3 * FLOOR_MB]
    assert demo.of("edit", "runtime", job) == FLOOR_MINUTES
    assert demo.of("edit", "gpu_model", job) == ""


def test_a_large_model_asks_for_its_weights_and_for_time():
    large = needs("pitfalls")
    job = EDIT | {"model": "gpt-j-6b", "editor": "memit"}
    assert 24_200 < large.of("edit", "mem_mb", job) < 40_000
    need = large.need("edit", job)
    seconds = large.seconds("edit", need, find_device("h100-80gb"))
    assert seconds > large.device.seconds(need.work) + large.device.start_seconds
    assert large.of("edit", "runtime", job, 2) == pytest.approx(2 * MARGIN * seconds / 60, abs=2)
    assert large.of("edit", "mem_mb", job) > large.of("edit", "mem_mb", job | {"model": "gpt2-xl"})


def test_the_smallest_type_that_holds_a_model_is_asked_for():
    gpus = {"v100": "v100-32gb", "a100.40": "a100-40gb", "h100": "h100-80gb"}
    both = needs("pitfalls", gpus=gpus)
    asked = {
        (model, editor): both.of("edit", "gpu_model", EDIT | {"model": model, "editor": editor})
        for model in ("gpt2-xl", "gpt-j-6b")
        for editor in ("ft", "memit")
    }
    assert asked == dict.fromkeys(asked, "v100") | {("gpt-j-6b", "memit"): "h100"}
    both.check_gpus()


def test_a_model_that_no_type_holds_is_an_error_that_names_it():
    small = needs("pitfalls", gpus={"v100": "v100-32gb"})
    with pytest.raises(
        ValueError, match=r"moments of gpt-j-6b needs 5\d GB .* v100 \(32 GB\); name a larger"
    ):
        small.check_gpus()


def test_every_rule_that_asks_for_a_gpu_is_reckoned():
    named = set()
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'gpu_job\("(\w+)"\)', text))
        like = re.findall(r"^use rule (\w+) as (\w+)", text, flags=re.M)
        named |= {other for rule, other in like if rule in named}
    assert named == RULES
    assert {"edit", "moments", "train_mend", "verify_facts", "baseline", "edit_sequence"} <= named


def test_a_job_on_a_processor_asks_for_a_batch_beside_its_weights():
    """Editing SmolLM2 by MEMIT took up to 3.6 GB there, and asking it about facts 2.0 GB."""
    small = needs("laptop")
    job = EDIT | {"kg": "atlas", "model": "smollm2-135m", "editor": "memit_mle", "dataset": "round_easy"}
    assert 3605 < small.of("edit", "mem_mb", job) < 5000
    assert 1964 < small.of("verify_facts", "mem_mb", {"model": "smollm2-135m"}) < 3200


def test_every_shipped_model_says_its_sizes():
    for path in (ROOT / "resources" / "models").glob("*.yaml"):
        assert {"shape", "architecture"} & set(yaml.safe_load(path.read_text(encoding="utf-8"))), path


# --- devices -----------------------------------------------------------------------------------------------
def test_seconds_add_up():
    device = find_device("cpu")
    work = Work(
        1e12 * device.tflops["strict"], 1e12 * device.tflops["float64"], 2 * GB * device.bandwidth_gb_s
    )
    assert device.seconds(work) == pytest.approx(4)
    assert device.seconds(Work(passes=10, rows=100)) == pytest.approx(
        10 * device.pass_seconds + 100 * device.row_seconds
    )
    need = Need(Work(), read=GB * device.read_gb_s, host=0, gpu=0)
    assert needs().seconds("edit", need, device) == pytest.approx(device.start_seconds + 1)


def test_all_that_is_wrong_with_a_file_of_devices_is_listed(tmp_path):
    entries = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    entries["cpu"]["memory"] = entries["cpu"].pop("memory_gb")
    entries["h100-80gb"]["tflops"]["bf16"] = -1
    (tmp_path / "devices.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    with pytest.raises(ValueError, match="2 wrong|3 wrong") as error:
        read_devices(tmp_path / "devices.yaml")
    assert "memory_gb" in str(error.value)
    assert "h100-80gb.tflops.bf16" in str(error.value)


def test_an_unknown_device_is_an_error_with_a_suggestion():
    config, _ = study()
    config["gpus"] = {"h": "h100-80g", "c": "cpu"}
    config["shards"]["device"] = "a100"
    errors = list(device_errors(config))
    assert len(errors) == 3
    assert any(
        error.startswith("gpus.h: 'h100-80g' is unknown; did you mean 'h100-80gb'?") for error in errors
    )
    assert any("gpus.c: 'cpu' is no GPU" in error for error in errors)
    with pytest.raises(ValueError, match="shards.device: 'a100' is unknown"):
        check_config(config, ROOT)
    with pytest.raises(ValueError, match="device 'h100' is unknown; did you mean 'h100-80gb'"):
        find_device("h100")


def test_only_what_was_measured_says_so():
    assert [name for name, device in shipped().items() if device.measured] == ["cpu"]
    assert choose_gpu({}, 1e15, "anything") == ""


@pytest.mark.parametrize("max_keys", [None, 10])
def test_as_many_objects_are_asked_about_as_a_graph_or_a_limit_allows(tmp_path, max_keys):
    config, _ = study("pitfalls", mining={"max_keys": max_keys})
    facts = {"source": "ntriples", "namespace": "wikidata", "file": str(tmp_path / "facts.nt")}
    config["kgs"]["wdqs"] = facts
    (tmp_path / "facts.nt").write_bytes(bytes(1000 * module.TRIPLE_BYTES[".nt"]))
    relations = one_to_many_relations(ROOT / "resources", "wikidata")
    assert most_asked(config, ROOT, "objects") == min(
        1000, module.OBJECTS * (max_keys or 1e9) * len(relations)
    )


# --- division into jobs ------------------------------------------------------------------------------------
def jobs_of(config, models):
    sizes = shard_sizes(config, models)
    return sum(
        len(shard_ranges(number_of_cases(config, dataset), size)) for (_, dataset, _), size in sizes.items()
    ) * len(config["seeds"])


def test_ranges_cover_every_case_once_and_cut_no_block():
    for n in (0, 1, 31, 32, 33, 100, 2500):
        for size in (32, 64, 1024):
            ranges = [tuple(map(int, shard.split("-"))) for shard in shard_ranges(n, size)]
            assert [i for first, last in ranges for i in range(first, last + 1)] == list(range(n))
            assert all(first % 32 == 0 for first, _ in ranges)


def test_a_small_study_is_one_job_a_run_and_a_number_of_cases_can_be_given():
    config, models = study()
    assert jobs_of(config, models) == len(shard_sizes(config, models))
    config, models = study("pitfalls", shards={"cases": 96})
    sizes = shard_sizes(config, models)
    assert {size for (_, _, label), size in sizes.items() if label != "mend"} == {96}


def test_a_large_study_is_cut_into_jobs_of_minutes_by_what_they_cost():
    config, models = study("pitfalls")
    sizes = shard_sizes(config, models)
    assert {size for (_, _, label), size in sizes.items() if label != "mend"} <= LADDER
    assert {size for (_, _, label), size in sizes.items() if label == "mend"} == {2500}  # one after the other
    for dataset in config["datasets"]:
        for model in config["models"]:
            assert sizes[model, dataset, "ft"] > sizes[model, dataset, "rome"]  # which costs more
        for label in ("rome", "memit"):
            assert sizes["gpt2-xl", dataset, label] > sizes["gpt-j-6b", dataset, label]
    assert jobs_of(config, models) < 1500


def test_a_slower_device_and_fewer_minutes_make_smaller_shards():
    sizes = []
    for changes in ({"device": "h100-80gb"}, {"minutes": 2.5}, {"device": "cpu"}):
        config, models = study("pitfalls", shards={"max_jobs": 10**6, **changes})
        sizes.append(shard_sizes(config, models)["gpt2-xl", "coverage", "memit"])
    assert sizes == [sizes[0], sizes[0] / 4, 32]


def test_longer_shards_keep_a_study_below_the_most_jobs():
    config, models = study("pitfalls", seeds=[0, 1, 2, 3])
    sizes = shard_sizes(config, models)
    free, _ = study("pitfalls", seeds=[0, 1, 2, 3], shards={"max_jobs": 10**6})
    assert jobs_of(free, models) > 2000 > jobs_of(config, models)
    whole = shard_sizes(free, models)
    factors = {size / whole[key] for key, size in sizes.items() if size != whole[key]}
    assert len(factors) <= 3  # all are doubled alike, but for those that were whole before
    assert {size for (_, _, label), size in sizes.items() if label != "mend"} <= LADDER


def test_what_was_measured_here_changes_no_file_name(monkeypatch, tmp_path):
    config, models = study("pitfalls")
    before = shard_sizes(config, models)
    (tmp_path / "results" / "bench").mkdir(parents=True)
    text = SHIPPED.read_text(encoding="utf-8").replace("tflops: {strict: 26.8", "tflops: {strict: 1.0")
    (tmp_path / "results" / "bench" / "device.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert shard_sizes(config, models) == before


def test_a_slightly_better_estimate_renames_few_files(monkeypatch):
    config, models = study("pitfalls")
    before = shard_sizes(config, models)
    device = find_device("h100-80gb")
    faster = replace(device, tflops={name: 1.05 * rate for name, rate in device.tflops.items()})
    monkeypatch.setattr(module, "find_device", lambda name: faster)
    after = shard_sizes(config, models)
    assert sum(before[key] != after[key] for key in before) <= 0.2 * len(before)
