"""Products by oneDNN against PyTorch's own, with their gradients."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from aftershock.lm import products
from aftershock.lm.products import LINE, Linear, TransposedLinear, align, linear

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
    align(model)
    assert model.weight is same
    assert model.weight.data_ptr() % LINE == 0
    assert torch.equal(model.weight, before)
