"""Qwen 1.5 to 2.5."""

from aftershock.lm.families import GATED

FAMILY = GATED
