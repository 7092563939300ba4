"""StarCoder 2, whose MLP has no gate."""

from dataclasses import replace

from aftershock.lm.families import GATED

FAMILY = replace(
    GATED,
    inputs=("model.layers.{}.mlp.c_fc",),
    projection="model.layers.{}.mlp.c_proj",
    windowed=True,
)
