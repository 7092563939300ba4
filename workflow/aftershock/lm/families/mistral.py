"""Mistral, whose attention may have a sliding window."""

from aftershock.lm.families import GATED

FAMILY = GATED
