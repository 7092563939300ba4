"""ERNIE 4.5, dense models."""

from aftershock.lm.families import GATED

FAMILY = GATED
