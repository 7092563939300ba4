"""What holds for every kind of delta: company, files, and cases that are moved, left out or drawn anew."""

from dataclasses import replace
from functools import cache

import pytest
import torch

import mild_wise
from aftershock.lm import scoring
from aftershock.lm.edits import join, random_like, scatter_cases, select, state_norm
from aftershock.lm.edits.saved import load_deltas, save_deltas
from aftershock.lm.scoring import score, score_states
from editing import identical, make, questions
from scoped import by_name, cache_of
from taught import taught
from tiny import CITIES, NAMES, dense, low_rank, requests, tiny
from toy_deltas import adapters, rows

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
        assert torch.allclose(said(lm, state, turned), torch.cat([found.flip(0), found[:5]]), atol=1e-9), name
        mine = of_case(2)[::3]
        alone = [replace(QUERIES[i], case=0) for i in mine]
        assert torch.allclose(said(lm, select(state, [2]), alone), found[mine], atol=1e-9), name


@every_kind
def test_several_states_equal_each_by_itself(family):
    lm, states = kinds(family)
    for chosen in (list(states), list(states)[::3], list(states)[1::3]):
        for name, scores in zip(chosen, score_states(lm, QUERIES, [states[n] for n in chosen]), strict=True):
            found = torch.tensor([s.logprob for s in scores])
            assert torch.allclose(found, said(lm, states[name]), atol=1e-9), name


@every_kind
def test_cases_that_are_moved_take_their_changes_with_them_and_others_have_none(family):
    lm, states = lasting(family)
    for name, state in states.items():
        wide = scatter_cases(select(state, [0, 2]), [3, 1], 4)
        for case, source in ((3, state), (1, state), (0, ()), (2, ())):
            old = {3: 0, 1: 2}.get(case, 0)
            queries = [QUERIES[i] for i in of_case(old)]
            found = said(lm, wide, [replace(query, case=case) for query in queries])
            assert torch.allclose(found, said(lm, source, queries), atol=1e-9), (name, case)


@every_kind
def test_a_case_that_is_left_out_is_unedited_and_the_others_stay(family):
    lm, states = lasting(family)
    for name, state in states.items():
        left = tuple(delta.without(torch.tensor([True, False, True])) for delta in state)
        unedited, before, after = said(lm, ()), said(lm, state), said(lm, left)
        for case in range(3):
            mine = of_case(case)
            wanted = before if case == 1 else unedited
            assert torch.allclose(after[mine], wanted[mine], atol=1e-9), (name, case)


@every_kind
def test_what_is_saved_is_read_back(family, tmp_path):
    for name, state in lasting(family)[1].items():
        save_deltas(state, tmp_path / "deltas.safetensors", {"note": "kept"})
        again, notes = load_deltas(tmp_path / "deltas.safetensors")
        assert identical(again, state), name
        assert notes["note"] == "kept"


KEPT = {"rows": ["indices"], "codebook": ["keys", "epsilons"], "masked memory": ["masks"]}
"""Of kinds by name, what a random change leaves as it is."""


@every_kind
def test_a_random_change_has_equal_norms_and_depends_on_its_own_seed_only(family):
    lm, states = kinds(family)
    first = questions(NAMES[:5], CITIES[:2])
    for name in states.keys() - adapters(lm).keys() - {"unedited"}:
        state = states[name]
        drawn, alone = random_like(state, [11, 12, 13]), random_like(select(state, [1]), [12])
        assert torch.allclose(state_norm(drawn), state_norm(state)), name
        assert torch.allclose(said(lm, select(drawn, [1]), first), said(lm, alone, first), atol=1e-9), name
        for mine, other, before in zip(drawn, random_like(state, [1, 2, 3]), join(state), strict=True):
            assert not any(identical((mine,), (another,)) for another in (other, before)), name
        for key in KEPT.get(name, ()):
            assert torch.equal(drawn[0].tensors()[key], state[0].tensors()[key])
        left = tuple(delta.without(torch.tensor([True, False, True])) for delta in state)
        for norms in (state_norm(left), state_norm(random_like(left, [11, 12, 13]))):
            assert norms.tolist() == pytest.approx([0.0, state_norm(state)[1].item(), 0.0]), name
