"""Deltas: many of one weight, and what holds for every kind of them."""

import weakref
from dataclasses import replace
from functools import cache

import pytest
import torch

import mild_wise
from aftershock.lm import edits, scoring
from aftershock.lm.edits import (
    CaseTensors,
    Dense,
    compact,
    join,
    merge_many,
    random_like,
    register,
    scatter_cases,
    select,
    state_norm,
)
from aftershock.lm.edits.saved import load_deltas, save_deltas
from aftershock.lm.scoring import score, score_states
from editing import identical, make, questions
from scoped import by_name, cache_of
from taught import taught
from tiny import CITIES, NAMES, dense, low_rank, requests, tiny
from toy_deltas import adapters, nudge, router, rows


def test_factors_and_norm_of_changed_neurons_are_those_of_their_matrix():
    delta = rows(tiny(), 1)
    U, V = delta.factors()
    assert torch.allclose(V.mT @ U, delta.dense())
    assert torch.allclose(delta.squared_norm(), delta.dense().square().sum(dim=(1, 2)))


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


# --- every kind ---------------------------------------------------------------------------------------------
CASES = [requests(1), requests(3)[1:], requests(4)[3:]]
QUERIES = questions(NAMES[:5], CITIES[:2], range(3))
BRIEF = {"layers": [1], "steps": 2}


@cache
def kinds(family):
    """A model, and a state of three cases for every kind of delta, by name."""
    lm = taught() if family == "gpt2" else tiny(family)
    found = adapters(lm) | {
        "unedited": (),
        "several": (low_rank(lm, 0, 3), low_rank(lm, 0, 3, seed=2), dense(lm, 1, 3)),
        "rows": (rows(lm, 1),),
        "a whole layer": make("locft", lm, **BRIEF, parameters="layer").edit(CASES).delta,
        "routed": (cache_of(by_name(lm), CASES),),
        "mixture": (low_rank(lm, 1, 3), cache_of(by_name(lm, scale=0.3), CASES, soft=True)),
        "codebook": make("grace", lm, **BRIEF, eps=0.5).edit(CASES).delta,
        "side memory": mild_wise.make(lm, [["{}"]], steps=2).edit(CASES).delta,
        "masked memory": make("memoir", lm, [["{}"]], **BRIEF).edit(CASES).delta,
    }
    if lm.context > 100:  # with room for facts
        nearest = {"match": "tokens", "threshold": 0.3, "nearest": 2}
        found["in context"] = make("in_context", lm).edit(CASES).delta
        for keys in ("subject", "prompt", "statement"):
            found[f"by {keys}"] = make("retrieval", lm, **nearest, keys=keys).edit(CASES).delta
    return lm, found


def said(lm, state, queries=QUERIES):
    return torch.tensor([s.logprob for s in score(lm, queries, state)])


def near(found, wanted):
    return torch.allclose(found, wanted, rtol=0, atol=1e-9)


def of_case(case, queries=QUERIES):
    """Places of one case's queries."""
    return [i for i, query in enumerate(queries) if query.case == case]


def lasting(family):
    """The same without the toys that only rewrite prompts, which can be neither left out nor saved."""
    lm, states = kinds(family)
    return lm, {name: state for name, state in states.items() if not name.startswith("context")}


every_kind = pytest.mark.parametrize("family", ["gpt2", "llama"])


@every_kind
def test_order_repetition_and_company_do_not_matter(family, monkeypatch):
    lm, states = kinds(family)
    turned = [*QUERIES[::-1], *QUERIES[:5]]
    for name, state in states.items():
        monkeypatch.setattr(scoring, "CPU_TOKENS", 4096)
        found = said(lm, state)
        monkeypatch.setattr(scoring, "CPU_TOKENS", 64)
        assert near(said(lm, state, turned), torch.cat([found.flip(0), found[:5]])), name
        mine = of_case(2)[::3]
        alone = [replace(QUERIES[i], case=0) for i in mine]
        assert near(said(lm, select(state, [2]), alone), found[mine]), name


@every_kind
def test_several_states_equal_each_by_itself(family):
    lm, states = kinds(family)
    for chosen in (list(states), list(states)[::3], list(states)[1::3]):
        for name, scores in zip(chosen, score_states(lm, QUERIES, [states[n] for n in chosen]), strict=True):
            found = torch.tensor([s.logprob for s in scores])
            assert near(found, said(lm, states[name])), name


@every_kind
def test_cases_that_are_moved_take_their_changes_with_them_and_others_have_none(family):
    lm, states = lasting(family)
    for name, state in states.items():
        wide = scatter_cases(select(state, [0, 2]), [3, 1], 4)
        for case, source in ((3, state), (1, state), (0, ()), (2, ())):
            old = {3: 0, 1: 2}.get(case, 0)
            queries = [QUERIES[i] for i in of_case(old)]
            found = said(lm, wide, [replace(query, case=case) for query in queries])
            assert near(found, said(lm, source, queries)), (name, case)


@every_kind
def test_a_case_that_is_left_out_is_unedited_and_the_others_stay(family):
    lm, states = lasting(family)
    for name, state in states.items():
        left = tuple(delta.without(torch.tensor([True, False, True])) for delta in state)
        unedited, before, after = said(lm, ()), said(lm, state), said(lm, left)
        for case in range(3):
            mine = of_case(case)
            wanted = before if case == 1 else unedited
            assert near(after[mine], wanted[mine]), (name, case)


@every_kind
def test_what_is_saved_is_read_back(family, tmp_path):
    for name, state in lasting(family)[1].items():
        save_deltas(state, tmp_path / "deltas.safetensors", {"note": "kept"})
        again, notes = load_deltas(tmp_path / "deltas.safetensors")
        assert identical(again, state), name
        assert notes["note"] == "kept"


KEPT = {"rows": ["indices"], "codebook": ["keys", "epsilons"], "masked memory": ["masks"]}
"""Parts that a random change leaves as they are, by the name of a kind."""


@every_kind
def test_a_random_change_has_equal_norms_and_depends_on_its_own_seed_only(family):
    lm, states = kinds(family)
    first = questions(NAMES[:5], CITIES[:2])
    for name in states.keys() - adapters(lm).keys() - {"unedited"}:
        state = states[name]
        drawn, alone = random_like(state, [11, 12, 13]), random_like(select(state, [1]), [12])
        assert torch.allclose(state_norm(drawn), state_norm(state)), name
        assert near(said(lm, select(drawn, [1]), first), said(lm, alone, first)), name
        for mine, other, before in zip(drawn, random_like(state, [1, 2, 3]), join(state), strict=True):
            assert not any(identical((mine,), (another,)) for another in (other, before)), name
        for key in KEPT.get(name, ()):
            assert torch.equal(drawn[0].tensors()[key], state[0].tensors()[key])
        left = tuple(delta.without(torch.tensor([True, False, True])) for delta in state)
        for norms in (state_norm(left), state_norm(random_like(left, [11, 12, 13]))):
            assert norms.tolist() == pytest.approx([0.0, state_norm(state)[1].item(), 0.0]), name
