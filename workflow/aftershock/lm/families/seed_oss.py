"""Seed-OSS."""

from aftershock.lm.families import GATED

FAMILY = GATED
