"""GPT-2's upper layers, with their derivative written out by hand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.attention import attend, attend_backward
from aftershock.lm.optimisation.written_out import WrittenOut, spread_rows
from aftershock.lm.products import linear


class Gpt2Layers(WrittenOut):
    """See WrittenOut."""

    @staticmethod
    def knows(lm: LanguageModel, layers: Sequence[Any]) -> bool:
        """Return whether all are GPT-2's blocks, without attention to another model."""
        known = all(type(layer) is GPT2Block and type(layer.mlp.act) is nn.GELU for layer in layers)
        return known and not lm.model.config.add_cross_attention

    def prepare(self, lm: LanguageModel) -> None:
        """Make queries, keys and values of the first layer: but for first tokens they stay as they are."""
        self.blocks = [_Block.of(layer) for layer in self.layers]
        self.last_norm = _Norm.of(self.norm)
        block = self.blocks[0]
        self.attended = block.attended(block.first_norm(self.hidden.flatten(0, 1))[0])

    def forward(self, entered: Tensor) -> tuple[Tensor, Any]:
        """See WrittenOut."""
        rows, seq, width = self.hidden.shape
        x, kept = self.tokens(entered), []
        for block, (keys, values), mask in zip(self.blocks, self.past, self.masks, strict=True):
            if block is self.blocks[0]:
                normed, *first = block.first_norm(entered)
                made = self.attended.clone()
                made[::seq] = block.attended(normed)
            else:
                normed, *first = block.first_norm(x)
                made = self.padded(block.attended(normed))
            q, k, v = made.view(rows, seq, 3, block.heads, -1).permute(2, 0, 3, 1, 4)
            k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
            seen, attended = attend(q, k, v, mask, block.scaling)
            joined = seen.transpose(1, 2).reshape(-1, width)
            if block is self.blocks[-1]:
                joined, stream = joined[self.read], x[self.places]
            else:
                joined, stream = self.packed(joined), x
            middle = block.projected(joined).add_(stream)
            normed, *second = block.second_norm(middle)
            inner = block.widened(normed)
            kept.append((x, first, attended, middle, second, inner))
            x = block.narrowed(nn.functional.gelu(inner, approximate=block.approximate)).add_(middle)
        normed, *last = self.last_norm(x)
        return normed, (kept, (x, *last))

    def backward(self, slope: Tensor, entered: Tensor, kept: Any) -> Tensor:
        """See WrittenOut."""
        rows, seq, _ = self.hidden.shape
        each, last = kept
        slope = self.last_norm.backward(slope, *last)
        parts = list(zip(self.blocks, each, strict=True))
        for block, (x, first, attended, middle, second, inner) in reversed(parts):
            opened = block.narrowed.backward(slope)
            through = torch.ops.aten.gelu_backward(opened, inner, approximate=block.approximate)
            normed = block.widened.backward(through)
            slope = block.second_norm.backward(normed, middle, *second).add_(slope)
            joined = block.projected.backward(slope)
            if block is self.blocks[-1]:
                joined, slope = self.spread(joined, self.read), spread_rows(slope, self.places, len(x))
            else:
                joined = self.padded_slope(joined)
            seen = joined.view(rows, seq, block.heads, -1).transpose(1, 2)
            own = torch.stack(attend_backward(seen, attended, block.scaling, seq)).permute(1, 3, 0, 2, 4)
            own = own.reshape(rows * seq, -1)
            if block is self.blocks[0]:
                x, own, slope = entered, own[::seq], slope[self.firsts]
            else:
                own = self.packed(own)
            slope = block.first_norm.backward(block.attended.backward(own), x, *first).add_(slope)
        return slope


class _Affine(NamedTuple):
    """A Conv1D of rows."""

    weight: Tensor
    transposed: Tensor
    bias: Tensor

    @classmethod
    def of(cls, module: Any) -> "_Affine":
        return cls(module.weight.detach(), module.weight.detach().T, module.bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.transposed, self.bias)

    def backward(self, slope: Tensor) -> Tensor:
        return linear(slope, self.weight)


class _Norm(NamedTuple):
    """A norm of rows; also returns their means, and one over their deviations."""

    shape: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, module: nn.LayerNorm) -> "_Norm":
        return cls(module.normalized_shape, module.weight.detach(), module.bias.detach(), module.eps)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_layer_norm(x, *self)

    def backward(self, slope: Tensor, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        rest = (self.weight, self.bias, [True, False, False])
        return torch.ops.aten.native_layer_norm_backward(slope, x, self.shape, mean, scale, *rest)[0]


class _Block(NamedTuple):
    """The parts of a layer, looked up once: on a small model looking them up takes as long as a product."""

    first_norm: _Norm
    attended: _Affine  # queries, keys and values
    projected: _Affine
    second_norm: _Norm
    widened: _Affine
    narrowed: _Affine
    heads: int
    scaling: float
    approximate: str

    @classmethod
    def of(cls, layer: Any) -> "_Block":
        attention, mlp = layer.attn, layer.mlp
        return cls(
            _Norm.of(layer.ln_1),
            _Affine.of(attention.c_attn),
            _Affine.of(attention.c_proj),
            _Norm.of(layer.ln_2),
            _Affine.of(mlp.c_fc),
            _Affine.of(mlp.c_proj),
            attention.num_heads,
            attention.scaling,
            mlp.act.approximate,
        )
