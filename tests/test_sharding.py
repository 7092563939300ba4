"""Division of studies into jobs."""

from dataclasses import replace

from aftershock.budget import devices, sharding
from aftershock.budget.sharding import shard_sizes
from aftershock.config.shards import number_of_cases, shard_ranges
from configured import study

LADDER = {32 * 2**i for i in range(12)}


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


def test_the_embedded_study_is_one_job_a_run():
    config, models = study()
    for (_, dataset, _), size in shard_sizes(config, models).items():
        assert len(shard_ranges(number_of_cases(config, dataset), size)) == 1


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
    sizes = {}
    for name, changes in {
        "h100": {"device": "h100-80gb"},
        "cpu": {"device": "cpu", "max_jobs": 10**6},
    }.items():
        config, models = study("pitfalls", shards=changes)
        sizes[name] = shard_sizes(config, models)["gpt2-xl", "coverage", "memit"]
    config, models = study("pitfalls", shards={"minutes": 2.5, "max_jobs": 10**6})
    sizes["short"] = shard_sizes(config, models)["gpt2-xl", "coverage", "memit"]
    assert sizes["cpu"] == 32
    assert sizes["short"] == sizes["h100"] / 4


def test_longer_shards_keep_a_study_below_the_most_jobs():
    config, models = study("pitfalls", seeds=[0, 1, 2, 3])
    sizes = shard_sizes(config, models)
    free, _ = study("pitfalls", seeds=[0, 1, 2, 3], shards={"max_jobs": 10**6})
    assert jobs_of(free, models) > 2000 > jobs_of(config, models)
    whole = shard_sizes(free, models)
    factors = {size / whole[key] for key, size in sizes.items() if size != whole[key]}
    assert len(factors) <= 3  # all are doubled alike, but for those that were whole before
    assert {size for (_, _, label), size in sizes.items() if label != "mend"} <= LADDER


def test_a_number_of_cases_can_be_given():
    config, models = study("pitfalls", shards={"cases": 96})
    sizes = shard_sizes(config, models)
    assert {size for (_, _, label), size in sizes.items() if label != "mend"} == {96}


def test_what_was_measured_here_changes_no_file_name(monkeypatch, tmp_path):
    config, models = study("pitfalls")
    before = shard_sizes(config, models)
    (tmp_path / "results" / "bench").mkdir(parents=True)
    text = devices.SHIPPED.read_text(encoding="utf-8").replace(
        "tflops: {strict: 26.8", "tflops: {strict: 1.0"
    )
    (tmp_path / "results" / "bench" / "device.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert shard_sizes(config, models) == before


def test_a_slightly_better_estimate_renames_few_files(monkeypatch):
    config, models = study("pitfalls")
    before = shard_sizes(config, models)
    device = sharding.find_device("h100-80gb")
    faster = replace(device, tflops={name: 1.05 * rate for name, rate in device.tflops.items()})
    monkeypatch.setattr(sharding, "find_device", lambda name: faster)
    after = shard_sizes(config, models)
    assert sum(before[key] != after[key] for key in before) <= 0.2 * len(before)
