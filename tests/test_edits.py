"""Rows of a weight, many deltas of one weight, and deltas in files."""

import weakref

import pytest
import torch

from aftershock.lm import edits
from aftershock.lm.edits import CaseTensors, Dense, compact, join, merge_many, register
from aftershock.lm.edits.saved import load_deltas, save_deltas
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import encode_pairs
from editing import identical, questions
from obvious import of_target
from tiny import CITIES, NAMES, ROUNDING, dense, low_rank, next_log_probs, tiny, written
from toy_deltas import nudge, router, rows


# --- rows --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_changed_neurons_equal_weights_that_hold_them(family):
    lm = tiny(family)
    delta = rows(lm, 1)
    U, V = delta.factors()
    assert torch.allclose(V.mT @ U, delta.dense())
    assert torch.allclose(delta.squared_norm(), delta.dense().square().sum(dim=(1, 2)))
    queries = questions(NAMES[:2], CITIES[:1], range(3))
    for query, found in zip(queries, score(lm, queries, (delta,)), strict=True):
        (pair,) = encode_pairs(lm, [(query.prompt, query.target)])
        log_p = next_log_probs(written(lm, (delta,), query.case), pair.prompt + pair.target)
        assert found.token_logprobs == pytest.approx(of_target(log_p, pair).tolist(), abs=ROUNDING[family])


# --- many deltas of one weight -----------------------------------------------------------------------------
def test_compact_has_one_delta_for_each_weight():
    lm = tiny()
    low = [low_rank(lm, 0, 3, rank=1 + i % 2, seed=i) for i in range(6)]
    state = (low[0], dense(lm, 1, 3), *low[1:], low_rank(lm, 1, 3, seed=9), rows(lm, 2), low_rank(lm, 2, 3))
    small = compact(state)
    assert [(type(d).__name__, d.module) for d in small] == [
        ("LowRank", lm.projection(0)),
        ("Dense", lm.projection(1)),
        ("LowRank", lm.projection(2)),
    ]
    assert torch.equal(small[0].U, torch.cat([d.U for d in low], dim=1))  # in the order of the edits
    assert torch.equal(small[0].V, torch.cat([d.V for d in low], dim=1))
    for delta in small:
        wanted = sum(d.dense() for d in state if d.module == delta.module)
        assert torch.allclose(delta.dense(), wanted, rtol=0, atol=1e-12)
    assert torch.equal(small[1].bias, state[1].bias)
    assert identical(compact(state), small)


def test_a_delta_of_another_kind_is_not_moved_across():
    lm = tiny()
    first, second, third = (low_rank(lm, 0, 3, seed=i) for i in range(3))
    between = router(lm, 0)
    small = join((first, second, between, third))
    assert [type(d).__name__ for d in small] == ["LowRank", "Router", "LowRank"]
    assert small[1] is between


@pytest.mark.parametrize("tokens", [0, 3, 10, 100, 1e6])
def test_the_form_is_the_one_with_fewer_products(tokens):
    lm = tiny()
    d_out, d_in = lm.weight(lm.projection(0)).shape
    for rank in (2, 8, 13, 40, 200):
        (found,) = compact((low_rank(lm, 0, 2, rank),), tokens)
        dense_first = rank * d_out * d_in + tokens * d_out * d_in < tokens * rank * (d_out + d_in)
        assert isinstance(found, Dense) == dense_first, rank


@pytest.mark.parametrize("edits_made", [40, 3])
def test_a_state_of_many_edits_is_scored_as_the_sum_of_them(edits_made):
    lm = tiny()
    state = tuple(low_rank(lm, 1, 3, rank=1, seed=i) for i in range(edits_made)) + (dense(lm, 2, 3),)
    queries = questions(NAMES[:2], CITIES[:1], range(3))
    merged = merge_many(state, 10)
    assert len(merged) == (2 if edits_made == 40 else 4)
    whole = [Dense(lm.projection(1), sum(d.dense() for d in state[:-1])), state[-1]]
    for a, b in zip(score(lm, queries, state), score(lm, queries, tuple(whole)), strict=True):
        assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-9)


def test_many_edits_are_joined_once_and_not_kept_for_their_successors():
    lm = tiny()
    state = tuple(low_rank(lm, 1, 1, rank=1, seed=i) for i in range(6))
    (joined,) = merge_many(state)
    assert merge_many(state)[0] is joined
    assert merge_many(tuple(state))[0] is joined
    other = (*state[:-1], low_rank(lm, 1, 1, rank=1, seed=9))
    (found,) = merge_many(other)
    assert torch.equal(found.U[:, -1], other[-1].U[:, 0])
    assert merge_many(state[:-1])[0].rank == 5
    gone = weakref.ref(found)
    del found, other
    assert gone() is None  # nothing is held once an edit is no longer in use


@pytest.mark.parametrize("rank", [1, 40])
def test_any_order_of_rows_gets_its_own_cases(rank):
    lm = tiny()
    delta = low_rank(lm, 0, 3, rank)
    x = torch.randn(7, 4, delta.shape[1], dtype=lm.dtype, generator=torch.Generator().manual_seed(1))
    for cases in ([0, 1, 2, 0, 1, 2, 2], [2, 2, 2, 2, 2, 2, 2]):
        found = delta.change(x, torch.tensor(cases))
        wanted = torch.stack([row @ delta.dense()[case].T for row, case in zip(x, cases, strict=True)])
        assert torch.allclose(found, wanted, atol=1e-10)
    ordered = delta.change(x[:6], torch.tensor([0, 0, 1, 1, 2, 2]))
    assert torch.allclose(ordered[3], x[3] @ delta.dense()[1].T, atol=1e-10)


# --- files -------------------------------------------------------------------------------------------------
def test_files_without_deltas_or_with_unknown_ones_are_named(tmp_path, monkeypatch):
    lm = tiny()
    save_deltas((nudge(lm, "transformer.h.0"),), tmp_path / "a.safetensors")
    monkeypatch.delitem(edits.delta.KINDS, "Nudge")
    with pytest.raises(ValueError, match=r"unknown kind of delta 'Nudge'; known: .*Dense, .*LowRank"):
        load_deltas(tmp_path / "a.safetensors")
    lm.model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no deltas: its format is 'pt'"):
        load_deltas(tmp_path / "model.safetensors")


def test_two_kinds_cannot_share_a_name():
    with pytest.raises(ValueError, match="both have deltas of kind LowRank; rename one"):
        register(type("LowRank", (CaseTensors,), {}))
