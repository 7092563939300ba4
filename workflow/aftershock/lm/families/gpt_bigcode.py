"""GPT-BigCode (StarCoder 1, SantaCoder)."""

from dataclasses import replace

from aftershock.lm.families.gpt2 import FAMILY as GPT2

FAMILY = replace(GPT2, transposed=False)
