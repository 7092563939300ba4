"""Mistral, whose attention may have a sliding window."""

from dataclasses import replace

from aftershock.lm.families import GATED

FAMILY = replace(GATED, windowed=True)
