"""Estimated costs of passes, edits and whole jobs."""

from dataclasses import replace

import pytest

from aftershock.budget.cost import Costs
from aftershock.budget.devices import find_device
from aftershock.budget.edits import PADDED, Editing
from aftershock.budget.work import FROZEN, TRAINED, Work, generate, run, score
from aftershock.config.shards import BLOCK
from aftershock.config.sizes import UNKNOWN, Sizes
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
    forth = run(sizes, tokens=10, read=2)
    assert forth.flops == 2 * 10 * 3 * 192 + 2 * 2 * 50 * 4
    assert forth.bytes == 4 * (3 * 192 + 200) + 3 * 10 * 3 * sizes.token_bytes + 6 * 4 * 2 * 50
    assert forth.passes == 3
    assert run(sizes, tokens=10, layers=2).flops == 2 * 10 * 2 * 192
    assert [run(sizes, 10, 2, kind=kind).flops / forth.flops for kind in (FROZEN, TRAINED)] == [2, 3]
    assert [run(sizes, 10, 2, kind=kind).passes for kind in (FROZEN, TRAINED)] == [9, 15]
    assert run(sizes, tokens=10, batches=4).passes == 12
    assert run(sizes, tokens=20480).passes == 30  # 2048 tokens to a batch
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


def test_scoring_and_generating_by_hand():
    scored = score(SIZES, 10, 2.0, states=3, unchanged=4)  # 12 tokens to a prompt, 4 of which are read
    once, each = run(SIZES, 120, layers=4), run(SIZES, 120, 40, layers=8)
    assert scored == once + (each + Work(rows=20)) * 3
    written = generate(SIZES, texts=20, prompt=9, tokens=8, together=5)
    assert written == run(SIZES, 180, batches=4) + run(SIZES, 20, 20, batches=4) * 8
    assert generate(SIZES, 20, 9, 0) == generate(SIZES, 0, 9, 8) == Work()


def test_rates_are_found_again():
    device = find_device("cpu")
    given = [
        Work(flops=1e9 * i**2, bytes=1e8 * (7 - i), passes=10.0 * (i % 3), rows=5.0 * (i % 2))
        for i in range(1, 7)
    ]
    found = fit([(work, device.seconds(work)) for work in given])
    wanted = (
        1e12 * device.tflops["strict"],
        1e9 * device.bandwidth_gb_s,
        device.pass_seconds,
        device.row_seconds,
    )
    assert found == pytest.approx(wanted, rel=1e-6)


# --- edits -------------------------------------------------------------------------------------------------
def editing(method, sizes=SIZES, **settings):
    return Editing(method_of(method).method, settings_of(method, settings), sizes)


@pytest.mark.parametrize("method", sorted(find_methods()))
def test_every_method_is_estimated_and_more_cases_and_requests_cost_more(method):
    sizes = replace(SIZES, layers=max((*getattr(settings_of(method), "layers", ()), 11)) + 1)
    one = editing(method, sizes)
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
    below = run(SIZES, 10.5, layers=6)
    assert editing("grace", layers=[6], steps=1).work() == below + run(SIZES, PADDED * 10.5, 2.5, 6, FROZEN)
    edit, scored = editing("grace", layers=[6], steps=1), editing("grace", layers=[6], steps=3)
    assert scored.work().flops - edit.work().flops == 2 * run(SIZES, PADDED * 10.5, 2.5, 6, FROZEN).flops


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
    assert editing("in_context").before == 9 + 2.5 + 1
    more = [editing("in_context", examples=3), editing("retrieval", nearest=2)]
    assert [replace(each, requests=5.0).before for each in more] == [11 * 12.5, 2 * 12.5]
    entries = {f"of_{n}": {"method": "in_context", "settings": {"examples": n}} for n in (0, 4)}
    edited = [costs(editors=entries).edit(label, "coverage", BLOCK).work.flops for label in entries]
    assert 4 * edited[0] < edited[1] < 8 * edited[0]  # 31 tokens to a prompt, and 131
    assert editing("ft").before == 0


def test_more_states_and_continuations_cost_more():
    one = costs().edit("ft", "coverage", BLOCK)
    assert one.work.rows == BLOCK * 4 * 22 * 2  # four states, prompts of two facts, two objects
    assert costs().baseline("coverage", BLOCK).work.rows == one.work.rows / 4
    silent = costs(continuations={"tokens": 0, "roles": []}).edit("ft", "coverage", BLOCK)
    assert silent.work.passes < one.work.passes
    assert costs(health={"every": 1}).edit("ft", "coverage", BLOCK).work.flops > one.work.flops


def test_memory_holds_weights_moments_and_one_case():
    large = study("pitfalls")[1]["gpt-j-6b"]
    need = costs("h100-80gb", large).edit("memit", "coverage", BLOCK)
    weights, factors = 4 * 6.05e9, 6 * 16384**2 * 8
    assert weights + factors < need.gpu < 1.2 * (weights + factors) + 3e9
    assert need.read == pytest.approx(weights + 6 * 16384**2 * 4, rel=0.01)
    plain = costs("h100-80gb", large).edit("ft", "coverage", BLOCK)
    assert weights + 4 * 4096 * 16384 * 4 < plain.gpu < need.gpu


def test_a_training_is_shared_by_as_many_processes_as_a_batch_has_parts():
    alone, shared = (costs(model=MODEL | {"train": MODEL["train"] | {"parts": n}}).train_lm() for n in (1, 4))
    assert shared.work.flops == pytest.approx(alone.work.flops / 4)
    assert shared.host > alone.host
