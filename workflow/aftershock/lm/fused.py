"""Fused replacements of modules, faster than transformers' and equal up to rounding.

Norms, gated MLPs and GPT-2's GELU take half as long with derivatives written out by hand: for a few hundred
tokens, moving intermediate results through memory costs as much as a good part of the matrix products.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import GELUTanh, NewGELUActivation, SiLUActivation

HEAD_ROWS = 1024  # of the head that a CPU multiplies at a time: they stay in its cache
SMALL_HEAD = 1 << 21  # bytes that stay there as a whole
GATED = ("gate_proj", "up_proj", "down_proj", "act_fn")


def fuse(model: nn.Module) -> nn.Module:
    """Replace the known modules of `model` by fused ones; parameters keep their names."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if (fused := _fused(child)) is not None:
                setattr(parent, name, fused)
    return model


def _fused(module: nn.Module) -> nn.Module | None:
    if hasattr(module, "_hf_hook"):  # on another device, which its hook handles
        return None
    if isinstance(module, NewGELUActivation | GELUTanh):
        return nn.GELU(approximate="tanh")
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return RmsNorm(module)
    children = dict(module.named_children())
    if sorted(children) == sorted(GATED) and isinstance(module.act_fn, (nn.SiLU, SiLUActivation)):
        return GatedMlp(module)
    return None


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32 at least, as Llama and its descendants have it."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the normed rows, (..., width)."""
        return _Norm.apply(hidden, self.weight, self.eps)


class GatedMlp(nn.Module):
    """An MLP whose inner values are SiLU(gate) * up."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the MLP's output, (..., d_model)."""
        return self.down_proj(_Gate.apply(self.gate_proj(hidden), self.up_proj(hidden)))


class _Norm(torch.autograd.Function):
    """RMS norm without a gradient of the weight, which is frozen."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        scale = ((x * x).mean(dim=-1, keepdim=True) + eps).rsqrt_()
        ctx.save_for_backward(hidden, weight, scale)
        return (x * scale).to(hidden.dtype) * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        hidden, weight, scale = ctx.saved_tensors
        x = hidden.to(scale.dtype)
        weighted = gradients[0] * weight
        along = (weighted * x).mean(dim=-1, keepdim=True).mul_(scale).mul_(scale)
        return weighted.to(scale.dtype).addcmul(x, along, value=-1).mul_(scale).to(hidden.dtype), None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        opened = nn.functional.silu(gate)
        ctx.save_for_backward(gate, up, opened)
        return opened * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up, opened = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradients[0] * up, gate), gradients[0] * opened


def head_product(head: nn.Module, hidden: Tensor) -> Tensor:
    """`head(hidden)`, computed in pieces where the whole vocabulary at once would be slower."""
    small = head.weight.nbytes <= SMALL_HEAD
    if small or hidden.device.type != "cpu" or type(head) is not nn.Linear or head._forward_hooks:
        return head(hidden)
    made = _Head.apply(hidden.reshape(-1, hidden.shape[-1]), head.weight, head.bias)
    return made.reshape(*hidden.shape[:-1], -1)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        made = hidden.new_empty(len(hidden), len(weight))
        for rows, out in zip(weight.split(HEAD_ROWS), made.split(HEAD_ROWS, dim=1), strict=True):
            torch.mm(hidden, rows.T, out=out)
        return made if bias is None else made.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] @ ctx.saved_tensors[0], None, None
