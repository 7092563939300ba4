"""EXAONE 4."""

from aftershock.lm.families import GATED_POST_NORM

FAMILY = GATED_POST_NORM
