"""Cohere 1 (Command R), whose attention and MLP read the same stream."""

from aftershock.lm.families import GATED

FAMILY = GATED
