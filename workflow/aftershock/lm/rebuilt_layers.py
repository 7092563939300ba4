"""Modules of families whose own leave nothing to be run, watched and replaced by name, with the same numbers.

They have the modules and parameters of what they are made of, under the names that these are stored by.
"""

from typing import Any

import torch
from torch import Tensor, nn


class OptLayer(nn.Module):
    """OPT's layer with its MLP as a module; norms stand before attention and MLP."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        for name, child in layer.named_children():
            setattr(self, name, child)
        self.mlp = OptMlp(self)

    def forward(self, hidden: Tensor, **options: Any) -> Tensor:
        """Return the residual stream after the layer, (batch, seq, d_model)."""
        attended, _ = self.self_attn(hidden_states=self.self_attn_layer_norm(hidden), **options)
        stream = hidden + attended
        return stream + self.mlp(self.final_layer_norm(stream))


class OptMlp(nn.Module):
    """The MLP of a layer, which keeps both matrices."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = (layer,)  # in a tuple: its parameters are not also this module's

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the MLP's output, (batch, seq, d_model)."""
        (layer,) = self._layer
        return layer.fc2(layer.activation_fn(layer.fc1(hidden)))


class FalconLayer(nn.Module):
    """Falcon's layer, which adds to a copy of what its MLP puts out."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        for name, child in layer.named_children():
            setattr(self, name, child)
        self.in_turn = not (layer.config.new_decoder_architecture or layer.config.parallel_attn)
        self.two_norms = hasattr(layer, "ln_mlp")

    def forward(self, hidden: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream after the layer, (batch, seq, d_model), and the attention's weights."""
        entering = (self.ln_attn if self.two_norms else self.input_layernorm)(hidden)
        attended, weights = self.self_attention(entering, **options)
        if self.in_turn:
            stream = hidden + attended
            return stream + self.mlp(self.post_attention_layernorm(stream)), weights
        made = self.mlp(self.ln_mlp(hidden) if self.two_norms else entering)
        return hidden + (made + attended), weights


class NeoAttention(nn.Module):
    """GPT-Neo's attention, whose window is over places where it is given masks, and not over columns."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        for name, child in attention.named_children():
            setattr(self, name, child)
        self.heads, self.layer_id = attention.num_heads, attention.layer_id
        self.window = attention.config.window_size if attention.attention_type == "local" else None

    def forward(
        self, hidden: Tensor, attention_mask: Tensor | None = None, layer_past: Any = None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the attention's output, (batch, seq, d_model), and its weights.

        `attention_mask` is the model's own, (batch, 1, queries, keys), or has one for layers without a window
        and one for those with it, (batch, 2, queries, keys).
        """
        q, k, v = (
            project(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if layer_past is not None:
            k, v = layer_past.update(k, v, self.layer_id)
        wide = torch.promote_types(q.dtype, torch.float32)
        scores = q.to(wide) @ k.to(wide).mT  # which are not scaled
        given = attention_mask is not None and attention_mask.shape[1] == 2
        if attention_mask is not None:
            chosen = int(given and self.window is not None)
            scores = scores + attention_mask[:, chosen : chosen + 1, :, : k.shape[-2]]
        if not given:
            scores = scores.masked_fill(~self._seen(scores), torch.finfo(wide).min)
        weights = scores.softmax(dim=-1).to(v.dtype)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2)), weights

    def _seen(self, scores: Tensor) -> Tensor:
        """True where the last tokens, whose `scores` these are, see each of all, (queries, keys)."""
        queries, keys = scores.shape[-2:]
        places = torch.arange(keys, device=scores.device)
        back = places[keys - queries :, None] - places
        return (back >= 0) if self.window is None else (back >= 0) & (back < self.window)
