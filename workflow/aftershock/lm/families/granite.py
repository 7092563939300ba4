"""Granite 3 and 4, dense models, which scale the outputs that join the residual stream."""

from dataclasses import replace

from aftershock.lm.families import GATED

FAMILY = replace(GATED, mlp_scale="residual_multiplier")
