"""Weights that hold deltas for a while."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aftershock.lm.edits import Dense, LowRank
from aftershock.lm.edits.fold import fold
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.prompts import fill
from aftershock.requests import Query
from tiers import of_families
from tiny import FAMILIES, NAMES, ROUNDING, TEMPLATES, dense, low_rank, tiny
from toy_deltas import adapters, nudge, rows


def bits(lm: LanguageModel) -> dict[str, Tensor]:
    return copy.deepcopy(lm.model.state_dict())


def assert_same_bits(lm: LanguageModel, before: dict[str, Tensor]) -> None:
    for name, tensor in lm.model.state_dict().items():
        assert torch.equal(before[name].view(torch.uint8), tensor.view(torch.uint8)), name


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_folded_weights_do_what_the_deltas_do_and_come_back_bit_for_bit(family):
    lm = tiny(family)
    state = (low_rank(lm, 0, 3), dense(lm, 1, 3), low_rank(lm, 0, 3, rank=1, seed=1), rows(lm, 1))
    before = bits(lm)
    queries = [Query(fill(t, n), "Oslo", 1) for t in TEMPLATES for n in NAMES[:2]]
    wanted = [s.logprob for s in score(lm, queries, state)]
    with fold(lm, state, 1):
        assert [s.logprob for s in score(lm, queries)] == pytest.approx(wanted, abs=ROUNDING[family])
        inside = bits(lm)
        with fold(lm, (low_rank(lm, 0, 1, seed=7),), 0):
            assert not torch.equal(lm.weight(lm.projection(0)), lm.family.weight(_module(inside, lm)))
        assert_same_bits(lm, inside)
    assert_same_bits(lm, before)
    with pytest.raises(KeyError, match="inside"), fold(lm, state, 2):
        raise KeyError("inside")
    assert_same_bits(lm, before)


def _module(state: dict[str, Tensor], lm: LanguageModel):
    module = copy.deepcopy(lm.model.get_submodule(lm.projection(0)))
    module.weight.data = state[f"{lm.projection(0)}.weight"]
    return module


def test_folding_leaves_tied_weights_tied_and_refuses_to_change_them():
    lm = tiny(dtype=torch.float32)
    head, table = lm.model.get_output_embeddings(), lm.model.get_input_embeddings()
    assert head.weight is table.weight
    before = bits(lm)
    with fold(lm, (low_rank(lm, 0, 1),), 0):
        assert lm.model.get_output_embeddings().weight is table.weight
    assert_same_bits(lm, before)
    twin = lm.model.get_submodule(lm.projection(1))
    twin.weight = lm.model.get_submodule(lm.projection(0)).weight  # as in a model whose layers share them
    shared = r"LowRank of transformer\.h\.0\.mlp\.c_proj: its weight is also that of transformer\.h\.1\.mlp"
    with pytest.raises(ValueError, match=shared), fold(lm, (low_rank(lm, 0, 1),), 0):
        pass


def test_a_bfloat16_model_is_folded_in_float32_and_rounded_once():
    lm = tiny(dtype=torch.bfloat16)
    g = torch.Generator().manual_seed(0)
    d_out, d_in = lm.weight(lm.projection(0)).shape
    steps = [
        LowRank(lm.projection(0), *(torch.randn(1, 1, d, generator=g) * 0.02 for d in (d_in, d_out)))
        for _ in range(50)
    ]
    before = bits(lm)
    exact = lm.weight(lm.projection(0)).float() + sum(step.dense()[0] for step in steps)
    with fold(lm, tuple(steps), 0):
        found = lm.weight(lm.projection(0)).clone()
    assert torch.allclose(found.float(), exact, rtol=2**-8, atol=1e-6)
    assert (found.float() - exact).abs().max() <= exact.abs().max() * 2**-8
    one_by_one = lm.weight(lm.projection(0)).clone()
    for step in steps:
        one_by_one += step.dense()[0].bfloat16()
    assert (found.float() - exact).norm() < 0.5 * (one_by_one.float() - exact).norm()
    assert_same_bits(lm, before)


def test_what_no_weights_can_hold_is_refused_before_anything_changes():
    lm = tiny()
    before = bits(lm)
    for bad, message in (
        (nudge(lm, lm.layer(1)), r"Nudge of transformer\.h\.1 is not a change of weights"),
        (adapters(lm)["context"][0], "Preface of no module is not a change of weights"),
        (replace(low_rank(lm, 1, 3), module="transformer.h.1.mlp.c_fc"), r"is for a weight of \(16, 64\)"),
    ):
        with pytest.raises(ValueError, match=message), fold(lm, (low_rank(lm, 0, 3), bad), 0):
            pass
    low, llama = low_rank(lm, 0, 3), tiny("llama")
    with pytest.raises(ValueError, match="no case 3: LowRank of .* has cases 0 to 2"), fold(lm, (low,), 3):
        pass
    bias = Dense(llama.projection(0), dense(llama, 0, 1).weight, torch.zeros(1, llama.d_model))
    with pytest.raises(ValueError, match="changes a bias, but the module has"), fold(llama, (bias,), 0):
        pass
    assert_same_bits(lm, before)
