"""OLMo 3, three of four of whose layers have a sliding window."""

from aftershock.lm.families import GATED_POST_NORM

FAMILY = GATED_POST_NORM
