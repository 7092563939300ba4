"""Arcee's AFM, whose MLP has no gate."""

from dataclasses import replace

from aftershock.lm.families import GATED

FAMILY = replace(GATED, inputs=("model.layers.{}.mlp.up_proj",))
