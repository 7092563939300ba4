"""Hunyuan, dense models."""

from aftershock.lm.families import GATED

FAMILY = GATED
