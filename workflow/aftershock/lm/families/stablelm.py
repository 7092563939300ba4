"""StableLM 2."""

from aftershock.lm.families import GATED

FAMILY = GATED
