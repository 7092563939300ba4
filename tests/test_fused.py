"""Fused parts of a model and products by oneDNN against transformers' and PyTorch's own, with gradients."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from aftershock.lm import fused, products
from aftershock.lm.optimisation.context_cache import recall
from aftershock.lm.optimisation.frozen_cache import FrozenCache
from aftershock.lm.products import LINE, Linear, TransposedLinear, as_one, lay_out, linear
from aftershock.lm.texts.tokens import locate
from benchmarks import models
from tiers import of_families
from tiny import FAMILIES, MORE, tiny

FUSED = {"llama", "mistral", "qwen2", "qwen3", "olmo2", "olmo3", "smollm3", "ministral", "granite"}


def outcome(model, ids):
    """Logits, and the gradient of some number made of them at the embeddings."""
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded).logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=logits.dtype)
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), embedded)[0]


@pytest.mark.parametrize("family", of_families([*FAMILIES, *MORE]))
def test_a_fused_model_says_what_its_own_modules_say(family):
    lm = tiny(family)
    ids = torch.arange(24).reshape(2, 12) * 7 % lm.model.config.vocab_size
    (mine, slope), (theirs, expected) = outcome(lm.model, ids), outcome(models.as_published(lm).model, ids)
    assert torch.allclose(mine, theirs, atol=1e-10)
    assert torch.allclose(slope, expected, atol=1e-10)
    kinds = {type(module) for module in lm.model.modules()}
    assert family in MORE or ({fused.RmsNorm, fused.GatedMlp} <= kinds) == (family in FUSED)


def test_beginnings_are_kept_until_weights_change():
    lm = tiny()
    texts = ["It rains.", "As they say in Graz.", ""]
    found = recall(lm, texts)
    assert recall(lm, texts) is found
    assert found.ids == ((), *(tuple(ids) for ids in lm.encode(texts[:2])))
    row, other = locate(lm, [("It rains. {} was born in", "Ada Vex"), ("{} was born in", "Ada Vex")])
    assert [found.before(row), found.before(other)] == [1, 0]
    cache = FrozenCache()
    with torch.no_grad():
        lm.run(*lm.pad(lm.encode(texts[:1])), past_key_values=cache, use_cache=True)
    for (keys, _), (expected, _) in zip(found.past([1]), cache.made.values(), strict=True):
        assert torch.allclose(keys[:, :, : expected.shape[2]], expected, atol=1e-12)
    weight = lm.weight(lm.projection(0))
    before = weight.clone()
    with torch.no_grad():
        weight.mul_(2)
        changed = recall(lm, texts)
        weight.copy_(before)
    assert changed is not found
    assert not torch.allclose(changed.kept[-1][0], found.kept[-1][0])


SHAPES = [(6,), (3, 6), (2, 3, 6)]
needs_onednn = pytest.mark.skipif(products._multiply is None, reason="this PyTorch has no such operation")


def made_of(module, shape):
    """Output of a module, and gradients at its input and its parameters."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = module(x)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    wanted = [x, *(p for p in module.parameters() if p.requires_grad)]
    return [out.detach(), *torch.autograd.grad(out, wanted, slope)]


@needs_onednn
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "module", [nn.Linear(6, 4), nn.Linear(6, 4, bias=False), Conv1D(4, 6)], ids=["linear", "bare", "conv1d"]
)
def test_a_module_is_the_one_it_replaces(module, shape, trained, monkeypatch):
    monkeypatch.setattr(products, "LARGE", 0)
    monkeypatch.setattr(products, "THIN", 0)
    calls, real = [], products._multiply
    monkeypatch.setattr(products, "_multiply", lambda *given: calls.append(1) or real(*given))
    module.requires_grad_(trained)
    mine = TransposedLinear(module) if isinstance(module, Conv1D) else Linear(module)
    assert dict(mine.named_parameters()).keys() == dict(module.named_parameters()).keys()
    found = made_of(mine, shape)
    assert len(calls) == 2  # forwards and backwards
    for one, other in zip(found, made_of(module, shape), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@needs_onednn
def test_slices_and_transposed_weights_are_multiplied_as_they_are(monkeypatch):
    monkeypatch.setattr(products, "LARGE", 0)
    monkeypatch.setattr(products, "THIN", 0)
    draw = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(7, 30, generator=draw)[:, 5:17], torch.randn(12, 9, generator=draw)
    assert torch.allclose(linear(rows, weight.T), rows @ weight, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_other_types_and_small_products_are_left_to_pytorch(dtype, monkeypatch):
    monkeypatch.setattr(products, "_multiply", None if dtype == torch.float32 else lambda *given: 1 / 0)
    monkeypatch.setattr(products, "LARGE", 0)
    monkeypatch.setattr(products, "THIN", 0)
    module = nn.Linear(6, 4, dtype=dtype)
    x = torch.randn(3, 6).to(dtype)
    assert torch.equal(Linear(module)(x), module(x))
    assert torch.equal(linear(x, module.weight, module.bias), module(x))


def test_weights_are_moved_to_where_lines_of_memory_begin():
    model = nn.Linear(6, 4)
    values = torch.randn(40)
    place = next(i for i in range(16) if values[i:].data_ptr() % LINE == 40)
    model.weight.data = values[place : place + 24].view(4, 6)
    before, same = model.weight.detach().clone(), model.weight
    lay_out(model)
    assert model.weight is same
    assert model.weight.data_ptr() % LINE == 0
    assert torch.equal(model.weight, before)


def attention_of(outputs, d_in, bias=False):
    """A module with maps to queries, keys and values of these widths."""
    module = nn.Module()
    for name, d_out in zip(("q_proj", "k_proj", "v_proj"), outputs, strict=True):
        setattr(module, name, nn.Linear(d_in, d_out, bias))
    return module


def weights_of(module):
    return [module.q_proj.weight, module.k_proj.weight, module.v_proj.weight]


def test_queries_keys_and_values_become_one_weight_without_a_copy():
    module = attention_of((48, 16, 16), 32, bias=True)
    before = [weight.detach().clone() for weight in weights_of(module)]
    assert as_one(weights_of(module)) is None
    lay_out(module)
    whole = as_one(weights_of(module))
    assert torch.equal(whole, torch.cat(before))
    module.k_proj.weight.data[3] += 1.0  # as an edit writes it
    assert torch.equal(whole[51], before[1][3] + 1.0)


@pytest.mark.parametrize(("outputs", "d_in"), [((5, 2, 2), 6), ((48, 16, 8), 3)])
def test_weights_that_would_lie_across_lines_stay_apart(outputs, d_in):
    module = attention_of(outputs, d_in)
    lay_out(module)
    assert as_one(weights_of(module)) is None


def test_weights_are_one_only_in_their_order_and_as_rows():
    module = attention_of((16, 16, 16), 16)
    lay_out(module)
    query, key, value = weights_of(module)
    assert as_one([query, key]) is not None
    assert as_one([query, value]) is None
    assert as_one([key, query, value]) is None
    assert as_one([query.T, key, value]) is None
