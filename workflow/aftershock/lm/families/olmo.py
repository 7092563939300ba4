"""OLMo 1, whose norms have no weights."""

from aftershock.lm.families import GATED

FAMILY = GATED
