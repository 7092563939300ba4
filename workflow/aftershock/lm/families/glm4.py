"""GLM-4 of 2025, which normalises its MLP's output."""

from dataclasses import replace

from aftershock.lm.families import GATED

FAMILY = replace(
    GATED,
    inputs=("model.layers.{}.mlp.gate_up_proj",),
    joined=True,
    mlp_norm="model.layers.{}.post_mlp_layernorm",
)
