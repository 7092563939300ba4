"""Products of rows with a weight on a processor, by oneDNN where they are large enough.

PyTorch multiplies float32 matrices with MKL, which uses no wider registers than AVX2's on processors of other
makers than its own, and packs the weight anew for every few rows. oneDNN, which PyTorch brings along for its
compiler, takes half the time where there are wider registers, mostly .8 to .95 of it where there are none.
It is reached by one private operation: where that is missing, everything is as PyTorch has it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

LARGE = 1 << 23  # multiplications from which the call itself no longer counts
THIN = 192  # sides of a weight; in smaller models, what oneDNN keeps of every number of rows counts more
LONG = 2560  # outputs from which a weight that lies (d_in, d_out) in memory is slow without AVX-512
WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512"
LINE = 64  # bytes of memory that a processor reads at once
_multiply: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # which torch may rename


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b for rows (n, d_in) and a weight (d_out, d_in), without a gradient."""
    if _by_onednn(x, weight):
        return _product(x, weight, bias)
    return nn.functional.linear(x, weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _multiply(x, weight, bias, "none", [], "")


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.numel() * len(weight) >= LARGE
        and min(weight.shape) >= THIN
        and _multiply is not None
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and (WIDE or weight.stride(1) == 1 or len(weight) < LONG)
        and not torch.is_autocast_enabled("cpu")
    )


class _Product(torch.autograd.Function):
    """A product by oneDNN with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope,), (x, weight) = gradients, ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            linear(slope, weight.T) if wanted[0] else None,
            slope.T @ x if wanted[1] else None,
            slope.sum(dim=0) if wanted[2] else None,
        )


def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A product by oneDNN of rows of any shape, (..., d_in), with a gradient where one is recorded."""
    rows = x.reshape(-1, x.shape[-1])
    make = _Product.apply if torch.is_grad_enabled() else _product
    made = make(rows, weight, bias)
    return made.reshape(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """A linear map with the parameters of `module`."""

    def __init__(self, module: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = module.in_features, module.out_features
        self.weight, self.bias = module.weight, module.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b, (..., d_out)."""
        if _by_onednn(x, self.weight):
            return _multiplied(x, self.weight, self.bias)
        return nn.functional.linear(x, self.weight, self.bias)


class TransposedLinear(Conv1D):
    """A Conv1D, whose weight is (d_in, d_out), with the parameters of `module`."""

    def __init__(self, module: Conv1D) -> None:
        nn.Module.__init__(self)
        self.nf, self.nx = module.nf, module.nx
        self.weight, self.bias = module.weight, module.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + b, (..., d_out)."""
        if x.numel() * self.nf >= LARGE and _by_onednn(x, self.weight.T):
            return _multiplied(x, self.weight.T, self.bias)
        return super().forward(x)


def lay_out(model: nn.Module) -> None:
    """Copy weights on a processor to where products with them take less time.

    Across its lines of memory, as those mapped from a file lie, they take up to a quarter longer. A text's
    queries, keys and values are one product where their weights lie behind each other.
    """
    for module in model.modules():
        maps = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj")]
        _join([each.weight for each in maps if isinstance(each, nn.Linear)])
    for weight in model.parameters():
        if weight.device.type == "cpu" and weight.data_ptr() % LINE:
            weight.data = weight.data.clone()


def _join(weights: Sequence[nn.Parameter]) -> None:
    """Let weights (d_out, d_in) of one kind lie behind each other, if each fills whole lines of memory."""
    kinds = {(weight.device.type, weight.dtype, weight.shape[1]) for weight in weights}
    if len(kinds) == 1 and weights[0].device.type == "cpu" and not any(w.nbytes % LINE for w in weights):
        parts = torch.cat([weight.data for weight in weights]).split([len(weight) for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.data = part


def as_one(weights: Sequence[Tensor]) -> Tensor | None:
    """Return weights (d_out, d_in) that lie behind each other as one, without a copy; None for others."""
    first, whole = weights[0], sum(map(len, weights))
    ends = [weight.data_ptr() + weight.nbytes for weight in weights]
    storages = {weight.untyped_storage().data_ptr() for weight in weights}
    behind = all(end == weight.data_ptr() for end, weight in zip(ends, weights[1:], strict=False))
    if len(storages) > 1 or not behind or not all(weight.is_contiguous() for weight in weights):
        return None
    return first.as_strided((whole, first.shape[1]), first.stride())
