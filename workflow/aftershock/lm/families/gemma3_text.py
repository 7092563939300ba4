"""Gemma 3, models of text."""

from aftershock.lm.families import GATED_POST_NORM

FAMILY = GATED_POST_NORM
