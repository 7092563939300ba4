"""Phi 3 and 4, whose MLP has its two first matrices in one."""

from dataclasses import replace

from aftershock.lm.families import GATED

FAMILY = replace(GATED, inputs=("model.layers.{}.mlp.gate_up_proj",), joined=True, windowed=True)
