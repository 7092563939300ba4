"""GPT-NeoX, the family of Pythia."""

from aftershock.lm.families import Family

FAMILY = Family(
    layer="gpt_neox.layers.{}",
    mlp="gpt_neox.layers.{}.mlp",
    projection="gpt_neox.layers.{}.mlp.dense_4h_to_h",
    inputs=("gpt_neox.layers.{}.mlp.dense_h_to_4h",),
    attention_projection="gpt_neox.layers.{}.attention.dense",
    norm="gpt_neox.final_layer_norm",
)
