"""The upper layers of Llama and of models that are built like it, with their derivative written out by hand.

Queries that share keys and values are attended as further positions of one head, so that these are not
copied, and queries and keys are turned by their positions together.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from aftershock.lm.fused import GatedMlp, RmsNorm
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.attention import attend, attend_backward
from aftershock.lm.optimisation.written_out import WrittenOut, spread_rows
from aftershock.lm.products import Linear, as_one, linear

KINDS = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer)


class LlamaLayers(WrittenOut):
    """See WrittenOut."""

    @staticmethod
    def knows(lm: LanguageModel, layers: Sequence[Any]) -> bool:
        """Return whether all are of one of KINDS, with plain linear maps."""
        return isinstance(lm.model.get_submodule(lm.family.norm), RmsNorm) and all(
            type(layer) in KINDS
            and type(layer.mlp) is GatedMlp
            and isinstance(layer.input_layernorm, RmsNorm)
            and isinstance(layer.post_attention_layernorm, RmsNorm)
            and all(type(module) is Linear for module in _linear(layer))
            for layer in layers
        )

    def prepare(self, lm: LanguageModel) -> None:
        """Make rotations and masks, and the first layer's queries, keys and values before rotation."""
        attention = self.layers[0].self_attn
        self.width = attention.head_dim
        self.groups = attention.num_key_value_groups
        self.shared = attention.k_proj.out_features // self.width  # heads of keys and values
        self.turned = self.shared * (self.groups + 1)  # heads of queries and keys
        cos, sin = lm.model.base_model.rotary_emb(self.hidden, self.positions)
        half = self.width // 2  # whose rates are those of the other half
        self.cos, self.sin = cos[:, :, None, :half], sin[:, :, None, :half]
        repeated = {id(mask): mask.repeat(1, 1, self.groups, 1) for mask in self.masks}
        self.masks = [repeated[id(mask)] for mask in self.masks]
        self.attending = [_Attending.of(layer.self_attn) for layer in self.layers]
        normed, _ = _norm(self.layers[0].input_layernorm, self.hidden.flatten(0, 1))
        self.attended = self.attending[0](normed)

    def forward(self, entered: Tensor) -> tuple[Tensor, Any]:
        """See WrittenOut."""
        rows, seq, width = self.hidden.shape
        x, kept = self.tokens(entered), []
        parts = zip(self.layers, self.attending, self.past, self.masks, strict=True)
        for layer, attending, (keys, values), mask in parts:
            attention, mlp = layer.self_attn, layer.mlp
            if layer is self.layers[0]:
                normed, first = _norm(layer.input_layernorm, entered)
                made = self.attended.clone()
                made[::seq] = attending(normed)
            else:
                normed, first = _norm(layer.input_layernorm, x)
                made = self.padded(attending(normed))
            q, k, v = self._heads(made.view(rows, seq, -1, self.width))
            k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
            seen, attended = attend(q, k, v, mask, attention.scaling)
            joined = self._joined(seen)
            if layer is self.layers[-1]:
                joined, stream = joined[self.read], x[self.places]
            else:
                joined, stream = self.packed(joined), x
            middle = _linear_of(attention.o_proj, joined).add_(stream)
            normed, second = _norm(layer.post_attention_layernorm, middle)
            gate, up = _linear_of(mlp.gate_proj, normed), _linear_of(mlp.up_proj, normed)
            opened = nn.functional.silu(gate)
            kept.append((x, first, attended, middle, second, gate, up, opened))
            x = _linear_of(mlp.down_proj, opened * up).add_(middle)
        normed, last = _norm(self.norm, x)
        return normed, (kept, x, last)

    def backward(self, slope: Tensor, entered: Tensor, kept: Any) -> Tensor:
        """See WrittenOut."""
        rows, seq, _ = self.hidden.shape
        each, *last = kept
        slope = _norm_backward(self.norm, slope, *last)
        parts = list(zip(self.layers, self.attending, each, strict=True))
        for layer, attending, (x, first, attended, middle, second, gate, up, opened) in reversed(parts):
            attention, mlp = layer.self_attn, layer.mlp
            inner = _backward_of(mlp.down_proj, slope)
            normed = _backward_of(mlp.gate_proj, torch.ops.aten.silu_backward(up.mul_(inner), gate))
            normed.add_(_backward_of(mlp.up_proj, opened.mul_(inner)))
            slope = _norm_backward(layer.post_attention_layernorm, normed, middle, second).add_(slope)
            joined = _backward_of(attention.o_proj, slope)
            if layer is self.layers[-1]:
                joined, slope = self.spread(joined, self.read), spread_rows(slope, self.places, len(x))
            else:
                joined = self.padded_slope(joined)
            heads = self._apart(joined.view(rows, seq, -1, self.width))
            q, k, v = attend_backward(heads, attended, attention.scaling, seq)
            turned = torch.cat([self._together(q), k.transpose(1, 2)], dim=2)
            made = torch.cat([self._turn(turned, -self.sin), v.transpose(1, 2)], dim=2).view(rows * seq, -1)
            if layer is self.layers[0]:
                x, made, slope = entered, made[::seq], slope[self.firsts]
            else:
                made = self.packed(made)
            normed = attending.backward(made)
            slope = _norm_backward(layer.input_layernorm, normed, x, first).add_(slope)
        return slope

    def _heads(self, made: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (rows, shared, groups * seq, width), keys and values (rows, shared, seq, width)."""
        turned = self._turn(made[:, :, : self.turned], self.sin)
        queries = self.shared * self.groups
        q = self._apart(turned[:, :, :queries])
        return q, turned[:, :, queries:].transpose(1, 2), made[:, :, self.turned :].transpose(1, 2)

    def _turn(self, x: Tensor, sin: Tensor) -> Tensor:
        """Rotate heads (rows, seq, heads, width) by their positions, or back with `sin` negated."""
        half = self.width // 2
        one, other = x[..., :half], x[..., half:]
        turned = torch.empty_like(x, memory_format=torch.contiguous_format)
        torch.mul(one, self.cos, out=turned[..., :half]).addcmul_(other, sin, value=-1)
        torch.mul(other, self.cos, out=turned[..., half:]).addcmul_(one, sin)
        return turned

    def _apart(self, x: Tensor) -> Tensor:
        """Heads (rows, seq, shared * groups, width) as (rows, shared, groups * seq, width)."""
        rows, seq = x.shape[:2]
        apart = x.unflatten(2, (self.shared, self.groups)).permute(0, 2, 3, 1, 4)
        return apart.reshape(rows, self.shared, self.groups * seq, self.width)

    def _together(self, x: Tensor) -> Tensor:
        """The reverse of `_apart`."""
        seq = self.hidden.shape[1]
        return x.unflatten(2, (self.groups, seq)).permute(0, 3, 1, 2, 4).flatten(2, 3)

    def _joined(self, x: Tensor) -> Tensor:
        """Heads as `_apart` returns them side by side, (rows * seq, heads * width)."""
        return self._together(x).reshape(self.hidden.shape[0] * self.hidden.shape[1], -1)


class _Attending(NamedTuple):
    """The maps of rows to their queries, keys and values side by side, before rotation.

    They are one product where their weights lie behind each other in memory, and three elsewhere.
    """

    weights: list[Tensor]  # (d_out, d_in)
    biases: list[Tensor | None]

    @classmethod
    def of(cls, attention: Any) -> "_Attending":
        modules = (attention.q_proj, attention.k_proj, attention.v_proj)
        weights = [module.weight.detach() for module in modules]
        biases = [None if module.bias is None else module.bias.detach() for module in modules]
        if (whole := as_one(weights)) is None:
            return cls(weights, biases)
        return cls([whole], [torch.cat(biases) if biases[0] is not None else None])

    def __call__(self, x: Tensor) -> Tensor:
        made = list(map(linear, repeat(x), self.weights, self.biases))
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)

    def backward(self, slope: Tensor) -> Tensor:
        parts = slope.split([len(weight) for weight in self.weights], dim=1)
        one, *others = (linear(part, weight.T) for part, weight in zip(parts, self.weights, strict=True))
        for other in others:
            one.add_(other)
        return one


def _linear(layer: Any) -> list[nn.Module]:
    """The linear maps of a layer."""
    attention, mlp = layer.self_attn, layer.mlp
    own = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    return [*own, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def _linear_of(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)


def _backward_of(module: nn.Linear, slope: Tensor) -> Tensor:
    """The gradient at a linear map's input."""
    return linear(slope, module.weight.T)


def _norm(module: RmsNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """A norm of rows, and one over their root mean squares."""
    scale = (x.square().mean(dim=-1, keepdim=True) + module.eps).rsqrt_()
    return (x * scale).mul_(module.weight), scale


def _norm_backward(module: RmsNorm, slope: Tensor, x: Tensor, scale: Tensor) -> Tensor:
    """The gradient at a norm's input; changes `slope`."""
    weighted = slope.mul_(module.weight)
    along = (weighted * x).mean(dim=-1, keepdim=True).mul_(scale).mul_(scale)
    return weighted.addcmul_(x, along, value=-1).mul_(scale)
