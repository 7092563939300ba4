"""Phi 1 and 2."""

from aftershock.lm.families import Family

FAMILY = Family(
    layer="model.layers.{}",
    mlp="model.layers.{}.mlp",
    projection="model.layers.{}.mlp.fc2",
    inputs=("model.layers.{}.mlp.fc1",),
    attention_projection="model.layers.{}.self_attn.dense",
    norm="model.final_layernorm",
)
