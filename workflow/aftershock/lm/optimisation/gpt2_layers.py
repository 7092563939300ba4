"""GPT-2's upper layers, with their derivative written out by hand."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.written_out import WrittenOut, attend, attend_backward, spread_rows


class Gpt2Layers(WrittenOut):
    """See WrittenOut."""

    @staticmethod
    def knows(lm: LanguageModel, layers: Sequence[Any]) -> bool:
        """Return whether all are GPT-2's blocks, without attention to another model."""
        known = all(type(layer) is GPT2Block and type(layer.mlp.act) is nn.GELU for layer in layers)
        return known and not lm.model.config.add_cross_attention

    def prepare(self, lm: LanguageModel) -> None:
        """Make queries, keys and values of the first layer: but for first tokens they stay as they are."""
        layer = self.layers[0]
        self.attended = _affine(layer.attn.c_attn, _norm(layer.ln_1, self.hidden.flatten(0, 1))[0])

    def forward(self, entered: Tensor, read: Tensor) -> tuple[Tensor, Any]:
        """See WrittenOut."""
        rows, seq, width = self.hidden.shape
        x, kept = self.hidden.clone(), []
        x[:, 0] = entered
        x = x.view(-1, width)
        for layer, (keys, values), mask in zip(self.layers, self.past, self.masks, strict=True):
            attention, mlp = layer.attn, layer.mlp
            if layer is self.layers[0]:
                normed, *first = _norm(layer.ln_1, entered)
                made = self.attended.clone()
                made[::seq] = _affine(attention.c_attn, normed)
            else:
                normed, *first = _norm(layer.ln_1, x)
                made = _affine(attention.c_attn, normed)
            heads = (rows, seq, 3, attention.num_heads, attention.head_dim)
            q, k, v = made.view(heads).permute(2, 0, 3, 1, 4)
            k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
            seen, scale = attend(q, k, v, attn_mask=mask, scale=attention.scaling)
            joined, stream = seen.transpose(1, 2).reshape(-1, width), x
            if layer is self.layers[-1]:
                joined, stream = joined[read], stream[read]
            middle = _affine(attention.c_proj, joined).add_(stream)
            normed, *second = _norm(layer.ln_2, middle)
            inner = _affine(mlp.c_fc, normed)
            opened = nn.functional.gelu(inner, approximate=mlp.act.approximate)
            kept.append((x, first, (q, k, v, seen, scale), middle, second, inner))
            x = _affine(mlp.c_proj, opened).add_(middle)
        normed, *last = _norm(self.norm, x)
        return normed, (kept, (x, *last))

    def backward(self, slope: Tensor, entered: Tensor, read: Tensor, kept: Any) -> Tensor:
        """See WrittenOut."""
        rows, seq, _ = self.hidden.shape
        each, last = kept
        slope = _norm_backward(self.norm, slope, *last)
        parts = list(zip(self.layers, self.masks, each, strict=True))
        for layer, mask, (x, first, attended, middle, second, inner) in reversed(parts):
            attention, mlp = layer.attn, layer.mlp
            opened = slope @ mlp.c_proj.weight.T
            through = torch.ops.aten.gelu_backward(opened, inner, approximate=mlp.act.approximate)
            slope = _norm_backward(layer.ln_2, through @ mlp.c_fc.weight.T, middle, *second).add_(slope)
            joined = slope @ attention.c_proj.weight.T
            if layer is self.layers[-1]:
                joined, slope = (spread_rows(made, read, rows * seq) for made in (joined, slope))
            seen = joined.view(rows, seq, attention.num_heads, attention.head_dim).transpose(1, 2)
            q, k, v = attend_backward(seen, *attended, 0.0, False, attn_mask=mask, scale=attention.scaling)
            own = torch.stack([q, k[:, :, -seq:], v[:, :, -seq:]]).permute(1, 3, 0, 2, 4)
            own = own.reshape(rows * seq, -1)
            if layer is self.layers[0]:
                x, own, slope = entered, own[::seq], slope[::seq]
            normed = own @ attention.c_attn.weight.T
            slope = _norm_backward(layer.ln_1, normed, x, *first).add_(slope)
        return slope


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
