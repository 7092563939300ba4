"""Running plans of edits: against all deltas side by side, replayed, resumed, and when edits fail."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from aftershock.editors.regularised import Regularised
from aftershock.experiments.sequences.checkpoint import at_checkpoint
from aftershock.experiments.sequences.plan import SINGLE
from aftershock.experiments.sequences.run import make_turn, run_sequence
from aftershock.experiments.sequences.writing import writing
from aftershock.lm.edits import EMPTY
from aftershock.lm.edits.accumulate import accumulate, bytes_of
from aftershock.lm.scoring import score
from aftershock.requests import EditRequest, Query
from aftershock.tables.sequences import SEQUENCE_TELEMETRY
from editing import METHODS, behaviour, families_of, identical, make, untouched
from sequenced import IDENTITY, Faulty, copied, edits, interrupted, plain, plan, run
from tiers import of_methods, some
from tiny import dense, low_rank, requests, tiny

FIVE = plan(2, 3, 5)


def editor_of(method, **changes):
    return make(method, tiny(families_of(method)[0]), **changes)


# --- the same as all deltas side by side -------------------------------------------------------------------
REGULARISED = [
    ("memit", [{"sphere": {}}]),
    ("memit", [{"norm_clamp": {"limit": 0.02}}]),
    ("memit", [{"rect": {"keep": 40}}]),
    ("memit", [{"prune": {}}]),
    ("memit", [{"prune": {"base": "edited"}}]),
    ("memit", [{"sphere": {"order": "in_loop"}}]),
    ("ft", [{"norm_clamp": {"limit": 0.02}}]),
]
"""Methods with regularisers that ask for the unedited weight or for the earlier changes."""


@pytest.mark.parametrize(
    ("method", "entries"),
    [
        *of_methods([(method, []) for method in METHODS]),
        *some(REGULARISED, [REGULARISED[0], REGULARISED[3], REGULARISED[-1]]),
    ],
)
def test_every_method_edits_as_with_all_deltas_side_by_side(method, entries, tmp_path):
    editor = Regularised(editor_of(method), entries) if entries else editor_of(method)
    wanted, before = plain(editor, FIVE), copy.deepcopy(editor.lm.model.state_dict())
    log = run(editor, FIVE, tmp_path / "log")
    assert untouched(editor.lm, before)
    for n in FIVE.edited:
        expected = behaviour(editor.lm, editor.scored(wanted[n - 1]), 1)  # PEFT's adapters are float32
        found = behaviour(editor.lm, log.scored(n), 1)
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)
        with at_checkpoint(editor.lm, log, n) as rest:
            assert torch.allclose(behaviour(editor.lm, rest, 1), expected, rtol=0, atol=1e-5)
            assert rest or not untouched(editor.lm, before)
        assert untouched(editor.lm, before)


@pytest.mark.parametrize("method", some(METHODS, ["alphaedit", "grace"]))
def test_a_log_replays_the_bits_of_the_sequence_and_a_resumed_one_goes_on_with_them(method, tmp_path):
    editor = editor_of(method)
    live, state, memory = [], EMPTY, None
    for turn in FIVE.turns:
        made = make_turn(editor, [edits(5)[i - 1].request for i in turn.positions], state, memory)
        state, memory = made.state, made.memory
        live.append(copied(state))
    log = run(editor, FIVE, tmp_path / "whole")
    with writing(tmp_path / "resumed", IDENTITY, {}) as writer, pytest.raises(KeyboardInterrupt):
        run_sequence(editor, edits(5), FIVE.turns, interrupted(writer, 4), 0)  # the third chunk is not whole
    another = editor_of(method)
    resumed = run(another, FIVE, tmp_path / "resumed")
    for n in FIVE.edited:
        assert identical(log.state(n), live[n - 1])
        assert identical(resumed.state(n), live[n - 1])
    if not log.manifest.chunks[-1].whole:
        assert identical(log.state(4), live[3])
    kept = ["position", "edit_id", "turn", "success", "logprob", "norm", "total_norm", "reason"]
    assert resumed.telemetry()[kept].equals(log.telemetry()[kept])


def test_a_checkpoint_is_scored_with_the_copy_and_later_edits_start_from_the_raw_state(tmp_path):
    editor = Regularised(editor_of("memit"), [{"prune": {"base": "edited"}}])  # which doubles small changes
    log = run(editor, FIVE, tmp_path / "log")
    assert identical(log.state(3), run(editor.editor, FIVE, tmp_path / "other").state(3))
    assert not identical(log.scored(3), log.state(3))
    assert identical(log.scored(3), editor.scored(log.state(3)))


@pytest.mark.parametrize("batch", [2, None])
def test_turns_of_several_edits(batch, tmp_path):
    editor = editor_of("memit")
    made = plan(2, 4, batch=batch, mode=SINGLE)
    log = run(editor, made, tmp_path / "log")
    for n in (2, 4):
        result = editor.edit([requests(4)[0 if batch is None else n - 2 : n]])
        found, expected = (behaviour(editor.lm, state, 1) for state in (log.state(n), result.delta))
        assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    telemetry = log.telemetry()
    SEQUENCE_TELEMETRY.check(telemetry)
    assert telemetry["position"].tolist() == ([1, 2, 3, 4] if batch else [1, 2, 1, 2, 3, 4])


# --- telemetry ---------------------------------------------------------------------------------------------
def test_telemetry_says_what_an_edit_did_right_after_it(tmp_path):
    editor = editor_of("memit")
    log = run(editor, FIVE, tmp_path / "log", every=2)
    telemetry = log.telemetry()
    SEQUENCE_TELEMETRY.check(telemetry)
    states = plain(editor, FIVE)
    before = EMPTY
    for i, state in enumerate(states):
        row = telemetry.iloc[i]
        asked = requests(5)[i]
        (found,) = score(editor.lm, [Query(asked.text, asked.target_new)], state)
        assert row["logprob"] == pytest.approx(found.logprob, abs=1e-6)
        assert row["success"] == found.argmax_match
        assert (row["position"], row["turn"], row["edit_id"]) == (i + 1, i + 1, 100 + i)
        change = {d.module: d.dense()[0] for d in state[len(before) :]}
        assert row["norm"] == pytest.approx(math.sqrt(sum(float(d.square().sum()) for d in change.values())))
        relative = [float(d.norm() / editor.lm.weight(module).norm()) for module, d in change.items()]
        assert row["relative_norm"] == pytest.approx(max(relative))
        total = [sum(d.dense()[0] for d in state if d.module == m) for m in change]
        assert row["total_norm"] == pytest.approx(math.sqrt(sum(float(d.square().sum()) for d in total)))
        before = state
    assert telemetry["nll"].notna().tolist() == [False, True, True, True, True]  # checkpoints 2, 3, 5; turn 4
    assert telemetry["condition"].notna().all()
    assert (telemetry["unedited_nll"] > 0).all()


# --- edits that fail ---------------------------------------------------------------------------------------
def test_a_failed_edit_leaves_the_state_and_the_sequence_goes_on(tmp_path):
    lm = tiny()
    log = run(Faulty(lm, {2: "no solution"}), FIVE, tmp_path / "log")
    assert identical(log.state(2), log.state(1))
    sums = accumulate(EMPTY, (low_rank(lm, 0, 1, seed=1),))
    assert identical(log.state(3), accumulate(sums, (low_rank(lm, 0, 1, seed=3),)))
    assert log.telemetry()["reason"].notna().tolist() == [False, True, False, False, False]
    assert log.telemetry()["norm"][1] == 0
    assert int(log.memory(5)["seen"]) == 4


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_sequence_ends_where_weights_are_not_finite(factor, tmp_path):
    lm = tiny()
    log = run(Faulty(lm, {3: factor}), plan(2, 4, 5), tmp_path / "log")
    assert log.reached([0, 2, 4, 5]) == [0, 2]
    assert "not finite" in log.absent[5]
    telemetry = log.telemetry()
    SEQUENCE_TELEMETRY.check(telemetry)
    assert telemetry["position"].tolist() == [1, 2, 3]
    assert "not finite" in telemetry["reason"][2]
    with pytest.raises(ValueError, match="checkpoint 4 was not reached: the weights are not finite"):
        log.state(4)
    again = Faulty(lm, {})
    assert run(again, plan(2, 4, 5), tmp_path / "log").reached([4]) == []
    assert again.calls == 0  # it has ended


@pytest.mark.parametrize("factor", [math.nan, 1e25])
@pytest.mark.parametrize("made", [plan(1, 2, 4), plan(2, 4, 6, batch=2), plan(2, 4)])
def test_a_sequence_ends_where_its_first_turn_breaks_the_model(made, factor, tmp_path):
    log = run(Faulty(tiny(dtype=torch.float32), {1: factor}), made, tmp_path / "log")
    assert log.reached([0, *made.checkpoints]) == [0]
    assert set(log.telemetry()["turn"]) == {1}


@pytest.mark.parametrize("every", [0, 100])
def test_a_sequence_ends_right_after_outputs_are_no_numbers_although_weights_are_finite(every, tmp_path):
    lm = tiny(dtype=torch.float32)
    log = run(Faulty(lm, {3: 1e25}), plan(2, 5), tmp_path / "log", every=every)
    assert log.reached([0, 2, 5]) == [0, 2]
    assert log.absent[5] == "the model's outputs are no numbers after it (edit 3 of the sequence)"
    telemetry = log.telemetry()
    SEQUENCE_TELEMETRY.check(telemetry)
    assert telemetry["position"].tolist() == [1, 2, 3]
    assert not telemetry["success"][2]
    assert math.isfinite(telemetry["norm"][2])
    assert identical(log.state(2), run(Faulty(lm, {}), plan(2), tmp_path / "other").state(2))


def test_single_edits_are_apart_from_one_that_breaks_the_model(tmp_path):
    log = run(Faulty(tiny(), {2: math.nan}), plan(1, 2, 4, mode=SINGLE), tmp_path / "log")
    assert log.reached([1, 2, 4]) == [1, 4]
    assert identical(log.state(4), accumulate(EMPTY, (low_rank(tiny(), 0, 1, seed=3),)))


# --- memory ------------------------------------------------------------------------------------------------
def test_what_is_held_does_not_grow_with_the_number_of_edits():
    lm = tiny()
    editor, state, memory, held = Faulty(lm, {}), EMPTY, None, []
    for _ in range(40):
        made = make_turn(editor, requests(1), state, memory)
        state, memory = made.state, made.memory
        held.append(bytes_of(state))
    assert len(set(held)) == 1
    assert held[0] == lm.weight(lm.projection(0)).numel() * 8


KINDS = ("alphaedit", "ultraedit", "rome", "in_context", "retrieval", "serac")


@pytest.mark.parametrize("method", some(KINDS, ["ultraedit", "in_context", "serac"]))
def test_the_editor_is_given_one_delta_for_each_weight_or_kind(method):
    editor = editor_of(method)
    state, memory, sizes = EMPTY, None, []
    for request in requests(6):
        made = make_turn(editor, [request], state, memory)
        state, memory = made.state, made.memory
        sizes.append(len(state))
    assert sizes == [sizes[0]] * 6


def test_changes_add_up_in_float32_at_least():
    lm = tiny()
    parts = [low_rank(lm, 0, 1, seed=seed) for seed in range(3)]
    half = [part.to(torch.bfloat16) for part in parts]
    state = EMPTY
    for part in half:
        state = accumulate(state, (part,))
    (total,) = state
    assert total.dtype == torch.float32
    assert torch.allclose(total.dense(), sum(part.to(torch.float32).dense() for part in half), atol=2e-2)
    whole = accumulate(EMPTY, (dense(lm, 0, 1), dense(lm, 1, 1), *parts))
    assert [delta.module for delta in whole] == [lm.projection(0), lm.projection(1)]
    assert torch.allclose(whole[0].dense(), dense(lm, 0, 1).dense() + sum(part.dense() for part in parts))
    assert torch.equal(whole[0].bias, dense(lm, 0, 1).bias)


def test_an_edit_that_does_not_fit_the_model_is_named_before_any_is_made(tmp_path):
    editor = Faulty(tiny(), {})
    long = [replace(edits(1)[0], request=EditRequest("{} " + "lives on " * 60, "Ada Vex", "Oslo"))]
    with writing(tmp_path / "log", IDENTITY, {}) as writer, pytest.raises(ValueError, match="edit 100 makes"):
        run_sequence(editor, long, plan(1).turns, writer)
    assert editor.calls == 0
