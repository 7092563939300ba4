"""GPT-2's upper layers as one operation, with its derivative written out by hand.

On a small model most of a pass goes to calling modules and to recording and following each operation for the
gradient, not to products. Written out, a pass also leaves out what no later layer looks at: the last layer
is computed at the positions that are read, and kept keys and values have no gradient.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from aftershock.lm.model import LanguageModel

ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"  # which torch may rename
_attend: Any = getattr(torch.ops.aten, ATTENTION, None)
_attend_backward: Any = getattr(torch.ops.aten, f"{ATTENTION}_backward", None)


class Gpt2Layers:
    """Passes of GPT-2's layers above one over the same tokens, which differ in each text's first token alone.

    `hidden` (rows, seq, d) enters the first of `layers`; `past` are the keys and values that each layer
    keeps, (rows, heads, P, width), and `mask` is (rows, 1, seq, P + seq).
    """

    def __init__(
        self,
        layers: Sequence[Any],
        norm: nn.LayerNorm,
        hidden: Tensor,
        past: Sequence[tuple[Tensor, Tensor]],
        mask: Tensor,
    ) -> None:
        self.layers, self.norm, self.hidden, self.past, self.mask = layers, norm, hidden, past, mask
        self._modules = [module for layer in layers for module in layer.modules()]
        with torch.no_grad():
            normed = _norm(layers[0].ln_1, hidden.flatten(0, 1))[0]
            self.attended = _affine(layers[0].attn.c_attn, normed)

    @classmethod
    def of(
        cls, lm: LanguageModel, after: int, hidden: Tensor, past: Sequence[tuple[Tensor, Tensor]], mask: Any
    ) -> "Gpt2Layers | None":
        """Return the layers above `after`; None where they are of another kind or not on a processor."""
        layers = [lm.model.get_submodule(lm.layer(number)) for number in range(after + 1, lm.n_layers)]
        config = lm.model.config
        known = all(type(layer) is GPT2Block and type(layer.mlp.act) is nn.GELU for layer in layers)
        if not layers or not known or lm.device.type != "cpu" or lm.precision != "strict":
            return None
        if config.add_cross_attention or config._attn_implementation != "sdpa":
            return None
        if _attend is None or _attend_backward is None:
            return None
        return cls(layers, lm.model.get_submodule(lm.family.norm), hidden, past[after + 1 :], mask)

    @property
    def is_plain(self) -> bool:
        """True while nothing is attached to a module of these layers."""
        return not any(
            m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in self._modules
        )

    def __call__(self, first: Tensor, read: Tensor) -> Tensor:
        """Return hidden states after the final norm where they are `read`, 0 elsewhere, (rows, seq, d).

        `first` (rows, d) enters at the first tokens; `read` are indices in rows * seq.
        """
        return _Layers.apply(first, self, read)


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, entered: Tensor, passes: Gpt2Layers, read: Tensor) -> Tensor:
        rows, seq, width = passes.hidden.shape
        x, kept = passes.hidden.clone(), []
        x[:, 0] = entered
        x = x.view(-1, width)
        for layer, (keys, values) in zip(passes.layers, passes.past, strict=True):
            attention, mlp = layer.attn, layer.mlp
            if layer is passes.layers[0]:  # the other tokens are as they were
                normed, *first = _norm(layer.ln_1, entered)
                made = passes.attended.clone()
                made[::seq] = _affine(attention.c_attn, normed)
            else:
                normed, *first = _norm(layer.ln_1, x)
                made = _affine(attention.c_attn, normed)
            heads = (rows, seq, 3, attention.num_heads, attention.head_dim)
            q, k, v = made.view(heads).permute(2, 0, 3, 1, 4)
            k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
            seen, scale = _attend(q, k, v, attn_mask=passes.mask, scale=attention.scaling)
            joined, stream = seen.transpose(1, 2).reshape(-1, width), x
            if layer is passes.layers[-1]:
                joined, stream = joined[read], stream[read]
            middle = _affine(attention.c_proj, joined).add_(stream)
            normed, *second = _norm(layer.ln_2, middle)
            inner = _affine(mlp.c_fc, normed)
            opened = nn.functional.gelu(inner, approximate=mlp.act.approximate)
            kept.append((x, first, (q, k, v, seen, scale), middle, second, inner))
            x = _affine(mlp.c_proj, opened).add_(middle)
        normed, *last = _norm(passes.norm, x)
        ctx.save_for_backward(entered, read)
        ctx.passes, ctx.kept, ctx.last = passes, kept, (x, *last)
        return entered.new_zeros(rows * seq, width).index_copy_(0, read, normed).view(rows, seq, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (entered, read), passes, (rows, seq, width) = ctx.saved_tensors, ctx.passes, gradients[0].shape
        slope = _norm_backward(passes.norm, gradients[0].reshape(-1, width)[read], *ctx.last)
        parts = list(zip(passes.layers, ctx.kept, strict=True))
        for layer, (x, first, attended, middle, second, inner) in reversed(parts):
            attention, mlp = layer.attn, layer.mlp
            opened = slope @ mlp.c_proj.weight.T
            through = torch.ops.aten.gelu_backward(opened, inner, approximate=mlp.act.approximate)
            slope = _norm_backward(layer.ln_2, through @ mlp.c_fc.weight.T, middle, *second).add_(slope)
            joined = slope @ attention.c_proj.weight.T
            if layer is passes.layers[-1]:
                joined, slope = (
                    made.new_zeros(rows * seq, width).index_copy_(0, read, made) for made in (joined, slope)
                )
            seen = joined.view(rows, seq, attention.num_heads, attention.head_dim).transpose(1, 2)
            q, k, v = _attend_backward(
                seen, *attended, 0.0, False, attn_mask=passes.mask, scale=attention.scaling
            )
            own = torch.stack([q, k[:, :, -seq:], v[:, :, -seq:]]).permute(1, 3, 0, 2, 4)
            own = own.reshape(rows * seq, -1)
            if layer is passes.layers[0]:
                x, own, slope = entered, own[::seq], slope[::seq]
            normed = own @ attention.c_attn.weight.T
            slope = _norm_backward(layer.ln_1, normed, x, *first).add_(slope)
        return slope, None, None


def _affine(module: Any, x: Tensor) -> Tensor:
    """A Conv1D of rows."""
    return torch.addmm(module.bias, x, module.weight)


def _norm(module: nn.LayerNorm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A norm of rows, their means, and one over their deviations."""
    return torch.native_layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


def _norm_backward(module: nn.LayerNorm, slope: Tensor, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """The gradient at a norm's input."""
    return torch.ops.aten.native_layer_norm_backward(
        slope, x, module.normalized_shape, mean, scale, module.weight, module.bias, [True, False, False]
    )[0]
