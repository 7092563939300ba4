"""Cohere 2 (Command R7B), whose attention and MLP read the same stream."""

from aftershock.lm.families import GATED

FAMILY = GATED
