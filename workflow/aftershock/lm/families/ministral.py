"""Ministral, whose layers take turns between a sliding window and none."""

from aftershock.lm.families import GATED

FAMILY = GATED
