"""Memories of WISE: which acts, how several become one by TIES, and whose they are."""

import pytest
import torch

from aftershock.editors.wise.ties import merge
from aftershock.lm.edits.side_memory import EMPTY_MEMORY, SideMemory
from mild_wise import make
from tiny import requests, tiny


def memories(choice, thresholds):
    k = len(thresholds)
    return SideMemory(
        "model.layers.1.mlp.down_proj",
        "linear",
        0.5,
        choice,
        "per_row",
        True,
        torch.zeros(1, k, 2, 2),
        torch.tensor([thresholds]),
        torch.ones(1, k, dtype=torch.bool),
        torch.ones(1, dtype=torch.long),
    )


@pytest.mark.parametrize(
    ("choice", "distances", "wanted"),
    [
        ("farthest", [0.9, 0.8, 0.1], -1),  # the farthest is below its threshold, though the next is not
        ("farthest", [1.0, 0.8, 0.1], 0),
        ("farthest", [1.0, 1.1, 1.2], 2),
        ("in_turn", [0.9, 0.8, 0.1], -1),  # one has to be farther than the side memory that is not used
        ("in_turn", [0.7, 0.8, 0.1], 1),
        ("in_turn", [1.0, 0.8, 0.1], 0),
        ("in_turn", [0.4, 0.45, 1.3], 2),
        ("in_turn", [0.4, 0.9, 1.3], 2),
        ("merged", [0.9, 0.8, 9.0], -1),  # those after the merged one wait
        ("merged", [0.9, 1.1, 9.0], 1),
        ("merged", [1.2, 1.1, 9.0], 0),
    ],
)
def test_the_memory_that_acts(choice, distances, wanted):
    memory = memories(choice, [2.0, 1.2, 2.0])
    assert memory.choose(torch.tensor([distances]), torch.zeros(1, dtype=torch.long)).tolist() == [wanted]


# --- several memories ---------------------------------------------------------------------------------------
def test_a_full_memory_is_stored_and_several_are_merged():
    lm = tiny("llama")
    editor = make(lm, [["{}"]], save_freq=2, merge_freq=4, density=0.4)
    state, memory, results = (), None, []
    for request in requests(5):
        result = editor.edit([[request]], state, memory)
        state, memory = result.delta, result.memory
        results.append(result)
    first, second, third, fourth, fifth = (result.delta[0] for result in results)
    away = [result.diagnostics[0]["away"].mean().item() for result in results]
    changes = [result.diagnostics[0]["change"] for result in results]
    assert first.changes.shape[1] == 1
    assert torch.equal(second.changes[0, 1], changes[1])
    assert not second.changes[0, 0].any()
    assert second.thresholds[0].tolist() == [EMPTY_MEMORY, pytest.approx(min(away[:2]))]
    assert torch.equal(third.changes[0], torch.stack([changes[2], changes[1]]))
    assert third.thresholds[0].tolist() == pytest.approx([away[2], min(away[:2])])
    assert fourth.changes.shape[1] == 2
    assert torch.allclose(fourth.changes[0, 1], merge([changes[1], changes[3]], [0.5, 0.5], 0.4))
    assert fourth.thresholds[0].tolist() == [EMPTY_MEMORY, pytest.approx(min(away[:4]))]
    assert fifth.edits.tolist() == [5]
    masks = [editor.draw_mask(started) for started in (0, 2, 4)]
    assert all(not change[masks[i // 2] == 0].any() for i, change in enumerate(changes))
    assert not torch.equal(masks[0], masks[1])
    at_once = editor.edit([requests(5)]).delta[0]  # a case of several requests
    assert torch.allclose(at_once.changes, fifth.changes)


def test_memories_of_other_cases_are_none_of_a_case_with_fewer():
    editor = make(tiny(), save_freq=1, merge_freq=2, steps=2)
    few, many = requests(2), requests(6, template=1)[2:]

    def twice(*cases):
        first = editor.edit([case[:-1] for case in cases])
        return editor.edit([case[-1:] for case in cases], first.delta, first.memory).delta[0]

    alone, beside = twice(few), twice(few, many).select([0])
    n = alone.changes.shape[1]
    assert beside.changes.shape[1] > n
    for name in ("changes", "thresholds", "used"):
        assert torch.equal(getattr(beside, name)[:, :n], getattr(alone, name)), name
    assert not beside.used[:, n:].any()


def test_an_edit_acts_after_one_that_was_taken_out():
    editor = make(tiny(), steps=2)
    gone = editor.edit([requests(1)]).delta[0].without(torch.tensor([True]))
    later = requests(2)[1:]
    found, wanted = editor.edit([later], (gone,)).delta[0], editor.edit([later]).delta[0]
    assert found.used.all()
    assert torch.equal(found.changes, wanted.changes)


def test_without_retrieval_all_merged_memories_are_one():
    lm = tiny("llama")
    editor = make(lm, [["{}"]], save_freq=1, merge_freq=2, retrieve=False, density=0.5, norm_constraint=None)
    result = editor.edit([requests(4)])
    changes = [found["change"] for found in result.diagnostics]
    one = merge(changes[:2], [0.5, 0.5], 0.5)
    both = merge([*changes[2:], one], [0.2, 0.2, 0.6], 0.5)
    (memory,) = result.delta
    assert torch.allclose(memory.changes[0], torch.stack([torch.zeros_like(both), both]))
    assert memory.used.all()


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_without_retrieval_what_waits_to_be_merged_acts_where_the_model_is_run(variant):
    lm = tiny("llama")
    settings = {"save_freq": 2, "merge_freq": 4, "retrieve": False, "density": 0.5, "variant": variant}
    editor = make(lm, [["{}"]], **settings, steps=2)
    state, memory, results = (), None, []
    for request in requests(7):
        results.append(editor.edit([[request]], state, memory))
        state, memory = results[-1].delta, results[-1].memory
    changes = [result.diagnostics[0]["change"] for result in results]
    run = [result.delta[0].changes[0] for result in results]
    assert torch.equal(run[0], changes[0][None])  # no memory has been full
    assert torch.equal(run[1][1], merge([changes[1]], [1.0], 0.5))
    assert torch.equal(run[2][1], merge([changes[1], changes[2]], [0.5, 0.5], 0.5))
    assert torch.equal(results[2].memory["changes"][0, [0, 2]], torch.stack([changes[2], changes[1]]))
    one = merge([changes[1], changes[3]], [0.5, 0.5], 0.5)
    assert torch.equal(run[3][1], one)
    assert torch.equal(run[6][1], merge([changes[5], changes[6], one], [0.2, 0.2, 0.6], 0.5))
    assert all(len(made) == 2 and not made[0].any() for made in run[1:])
    least = min(result.diagnostics[0]["away"].mean().item() for result in results)
    assert results[6].delta[0].thresholds[0, 0].item() == pytest.approx(least)
    at_once = editor.edit([requests(7)])
    assert torch.allclose(at_once.delta[0].changes[0], run[6])
    assert {name: tensor.shape for name, tensor in at_once.memory.items()} == {
        name: tensor.shape for name, tensor in results[6].memory.items()
    }
    after = editor.edit([requests(8)[7:]], results[2].delta)  # as if the model had been run before
    assert torch.equal(
        after.diagnostics[0]["memory"].changes[0, 1],
        merge([after.diagnostics[0]["change"], run[2][1]], [0.4, 0.6], 0.5),
    )


# --- TIES ---------------------------------------------------------------------------------------------------
def test_ties_by_hand():
    one = torch.tensor([4.0, -3.0, 1.0, 0.0, 0.5])
    two = torch.tensor([2.0, 5.0, -1.0, 0.0, 0.1])
    assert torch.equal(merge([one], [0.7], 1.0), one)
    found = merge([one, two], [0.5, 0.5], 1.0)
    assert found.tolist() == pytest.approx([3.0, 5.0, 1.0, 0.0, 0.3])  # a sum of zero counts as +
    kept = merge([one, two], [0.5, 0.5], 0.4)  # two entries of each
    assert kept.tolist() == pytest.approx([3.0, 5.0, 0.0, 0.0, 0.0])
    uneven = merge([one, two], [0.2, 0.6], 1.0)
    assert uneven[0] == pytest.approx((0.2 * 4 + 0.6 * 2) / 0.8)
