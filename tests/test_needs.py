"""Requests of jobs to a scheduler, and the GPU that holds a model."""

import re
from dataclasses import replace

import pytest
import yaml

from aftershock.budget.cost import Need
from aftershock.budget.devices import GB, SHIPPED, choose_gpu, find_device, read_devices, shipped
from aftershock.budget.needs import FLOOR_MB, FLOOR_MINUTES, MARGIN, RULES, Needs
from aftershock.budget.questions import OBJECTS, TRIPLE_BYTES, most_asked
from aftershock.budget.work import Work
from aftershock.config import check_config
from aftershock.config.run import device_errors
from aftershock.kg.sheets import one_to_many_relations
from configured import ROOT, study

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
    seconds = large.seconds("edit", need, find_device("h100-80gb"), find_device("cpu"))
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


def test_a_model_without_sizes_says_what_it_is_taken_for():
    config, models = study("pitfalls", gpus={"rtx": "rtx-4090-24gb"})
    config["models"] = ["gpt2-xl"]
    models = {"gpt2-xl": {key: value for key, value in models["gpt2-xl"].items() if key != "shape"}}
    with pytest.raises(
        ValueError, match="taken for a model of seven billion weights because its file has no `shape`"
    ):
        Needs(config, models, ROOT).check_gpus()


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
    assert needs().seconds("edit", need, device, device) == pytest.approx(device.start_seconds + 1)
    assert needs().seconds("edit", replace(need, on_host=True), find_device("h100-80gb"), device) < 25


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
    (tmp_path / "facts.nt").write_bytes(bytes(1000 * TRIPLE_BYTES))
    relations = one_to_many_relations(ROOT / "resources", "wikidata")
    assert most_asked(config, ROOT, "objects") == min(1000, OBJECTS * (max_keys or 1e9) * len(relations))
