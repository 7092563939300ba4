"""Helium 1."""

from aftershock.lm.families import GATED

FAMILY = GATED
