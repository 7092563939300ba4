"""Llama 1 to 3, and models built like them."""

from aftershock.lm.families import GATED

FAMILY = GATED
