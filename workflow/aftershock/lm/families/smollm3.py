"""SmolLM 3, a quarter of whose layers do without positions."""

from aftershock.lm.families import GATED

FAMILY = GATED
