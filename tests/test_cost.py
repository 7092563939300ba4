"""Estimated costs of passes, edits and whole jobs."""

from dataclasses import replace

import pytest

from aftershock.budget.cost import Costs
from aftershock.budget.devices import find_device
from aftershock.budget.edits import Editing
from aftershock.budget.parts import BLOCK, PROBES
from aftershock.budget.work import UNKNOWN, Sizes, Work, run
from aftershock.datasets.table import CONFLICT_STATES
from aftershock.editors.methods import find_methods, method_of, settings_of
from benchmarks import models
from benchmarks.calibrate import fit
from configured import study

SIZE = models.SIZES["tiny"]
CONFIG, MODELS = study()
MODEL = MODELS["demo-4x128"]
SIZES = Sizes(12, 768, 3072, 50257, 768)


@pytest.fixture(scope="module")
def lm():
    return models.build(SIZE)


def test_a_pass_by_hand():
    sizes = Sizes(layers=3, width=4, inner=16, vocabulary=50, key_value=4)
    assert sizes.layer == 4 * 16 + 2 * 64
    assert sizes.parameters == 3 * 192 + 200
    forth = run(sizes, 1, tokens=10, layers=3, keys=5, read=2)
    assert forth.flops == 2 * 10 * 3 * 192 + 10 * 3 * 4 * 5 * 4 + 2 * 2 * 50 * 4
    assert forth.passes == 3
    narrow = run(sizes, 1, tokens=10, layers=3, keys=5, read=2, narrow=True)
    assert forth.flops - narrow.flops == 2 * 8 * 128  # eight tokens are spared the last MLP
    gated = replace(sizes, gated=True, key_value=2)
    assert gated.layer == 2 * 4 * 6 + 3 * 64


def test_sizes_of_models_are_those_of_their_weights(lm):
    shape = {
        "width": 1600,
        "inner": 6400,
        "vocabulary": 50257,
        "key_value": None,
        "gated": False,
        "tied": True,
    }
    assert Sizes.of({"n_layers": 48, "shape": shape}).parameters == pytest.approx(1_557_611_200, rel=0.005)
    assert Sizes.of({"n_layers": 48}) == UNKNOWN
    weights = sum(p.numel() for p in lm.model.parameters() if p.ndim == 2)
    assert Sizes.of({"architecture": SIZE.config}).parameters == weights - 128 * 128  # but for positions


def test_batches_follow_the_memory_of_a_gpu_and_the_tokens_of_a_processor():
    cpu, gpu = find_device("cpu"), replace(find_device("h100-80gb"), memory=16e9)
    room = gpu.room(SIZES)
    assert room == pytest.approx(0.6 * (16e9 - SIZES.weight_bytes))
    assert gpu.batches(SIZES, room * 3, 1.0, 1) == pytest.approx(3)
    assert gpu.batches(SIZES, 10.0, 1e9, 1) == 1.0
    assert cpu.batches(SIZES, 1e12, 60.0, 20) == 3.0


def test_rates_are_found_again():
    device = find_device("cpu")
    given = [
        Work(flops=1e9 * i**2, bytes=1e8 * (7 - i), passes=10.0 * (i % 3), rows=5.0 * (i % 2))
        for i in range(1, 7)
    ]
    found = fit([(work, device.seconds(work)) for work in given])
    wanted = device.rates["strict"], device.bandwidth, device.pass_seconds, device.row_seconds
    assert found == pytest.approx(wanted, rel=1e-6)


# --- edits -------------------------------------------------------------------------------------------------
def editing(method, device="cpu", sizes=SIZES, **settings):
    return Editing(method_of(method).method, settings_of(method, settings), sizes, find_device(device))


@pytest.mark.parametrize("method", sorted(find_methods()))
def test_every_method_is_estimated_and_more_cases_and_requests_cost_more(method):
    sizes = replace(SIZES, layers=max((*getattr(settings_of(method), "layers", ()), 11)) + 1)
    for device in ("cpu", "h100-80gb"):
        one = editing(method, device, sizes)
        assert one.work().flops > 0
        assert one.case_bytes > 0
        assert replace(one, cases=2.0).work().flops > 1.9 * one.work().flops
        assert replace(one, requests=3.0).work().flops > 2.5 * one.work().flops
        assert replace(one, requests=3.0).case_bytes > one.case_bytes
        assert one.log_bytes(200, 3) > 0


def test_steps_and_layers_above_the_lowest_one_make_the_work():
    steps = {n: editing("grace", layers=[6], steps=n).work().flops for n in (10, 20, 30)}
    assert steps[30] - steps[20] == pytest.approx(steps[20] - steps[10])
    low, high = (editing("grace", layers=[layer], steps=100).work().flops for layer in (0, 6))
    assert 1.7 < low / high < 2.1  # twelve layers and six
    assert editing("ft", layers=[6], steps=50).work().bytes > editing("ft", layers=[6], steps=25).work().bytes


def test_a_pass_of_an_edit_by_hand():
    """GRACE at layer 6 of 12: 10.5 tokens six layers forth, and forth and back in the other six."""
    found = editing("grace", layers=[6], steps=1).work()
    below = run(SIZES, 1, 10.5, 6, 10.5)
    above = run(SIZES, 1, 10.5, 6, 10.5, 2.5, narrow=True, backward=True)
    assert found.flops == below.flops + above.flops
    assert found.passes == 6 + 3 * 6


def test_a_change_of_whole_matrices_is_kept_for_every_case_and_logged_at_every_checkpoint():
    matrix = 4 * SIZES.matrix
    full, small = editing("ft", layers=[6]), editing("rome", layers=[6])
    assert (full.change_bytes, small.change_bytes) == (matrix, 0)
    assert replace(small, dense=True).change_bytes == matrix
    assert full.case_bytes > 4 * matrix
    assert full.log_bytes(200, 3) == 3 * matrix
    assert small.log_bytes(200, 3) == 200 * (768 + 3072) * 4


# --- whole jobs --------------------------------------------------------------------------------------------
def costs(device="cpu", model=MODEL, **changes):
    return Costs(CONFIG | changes, model, find_device(device))


def test_an_edit_job_is_its_blocks_and_costs_more_with_more_labels():
    one, three = (costs().edit("memit", "round_easy", n * BLOCK).work for n in (1, 3))
    assert three.rows == 3 * one.rows
    assert three.flops == pytest.approx(3 * one.flops)
    several = costs().edit("memit_mle", "round_easy", BLOCK).work
    assert 1.5 * one.flops < several.flops < 2.5 * one.flops  # four edits in place of two, and the scoring


def test_facts_before_prompts_cost_what_their_tokens_do():
    plain = costs().scored(PROBES["coverage"], BLOCK, 4)
    longer = costs().scored(PROBES["coverage"], BLOCK, 4, 0, 12.5)
    tokens = {before: 9 + before + 1.5 * (3 * 11 + 14) / (11 + 9) for before in (0, 12.5)}
    assert longer.flops / plain.flops == pytest.approx(tokens[12.5] / tokens[0], rel=0.25)
    assert editing("in_context").before == 9 + 2.5 + 1
    more = [editing("in_context", examples=3), editing("retrieval", nearest=2)]
    assert [replace(each, requests=5.0).before for each in more] == [11 * 12.5, 2 * 12.5]
    entries = {f"of_{n}": {"method": "in_context", "settings": {"examples": n}} for n in (0, 4)}
    edited = [costs(editors=entries).edit(label, "coverage", BLOCK).work.flops for label in entries]
    assert edited[0] < edited[1]
    assert editing("ft").before == 0


def test_more_states_and_continuations_cost_more():
    asked = costs().scored(PROBES["composite"], BLOCK, len(CONFLICT_STATES), 0)
    twice = costs().scored(PROBES["composite"], BLOCK, 2 * len(CONFLICT_STATES), 0)
    assert twice.flops == pytest.approx(2 * asked.flops)
    shared = costs().scored(PROBES["composite"], BLOCK, len(CONFLICT_STATES), 2)
    assert shared.flops < 0.75 * asked.flops  # two of four layers are run once for all states
    silent = costs(continuations={"tokens": 0, "roles": []}).edit("ft", "coverage", BLOCK)
    assert silent.work.passes < costs().edit("ft", "coverage", BLOCK).work.passes
    assert asked.rows == BLOCK * 4 * PROBES["composite"].pairs


def test_memory_holds_weights_moments_and_one_case():
    large = study("pitfalls")[1]["gpt-j-6b"]
    need = costs("h100-80gb", large).edit("memit", "coverage", BLOCK)
    weights, factors = 4 * 6.05e9, 6 * 16384**2 * 8
    assert weights + factors < need.gpu < 1.2 * (weights + factors) + 3e9
    assert need.read == pytest.approx(weights + 6 * 16384**2 * 4, rel=0.01)
    plain = costs("h100-80gb", large).edit("ft", "coverage", BLOCK)
    assert weights + 4 * 4096 * 16384 * 4 < plain.gpu < need.gpu
