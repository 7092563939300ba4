"""Masks of attention as models take them: added to the scores, one for each kind of layer."""

import torch
from torch import Tensor
from transformers import PretrainedConfig

from aftershock.lm.families import Family

FULL, SLIDING = "full_attention", "sliding_attention"


def additive_mask(
    config: PretrainedConfig,
    family: Family,
    dtype: torch.dtype,
    allowed: Tensor,
    queries: Tensor,
    keys: Tensor,
) -> Tensor | dict[str, Tensor]:
    """Return the additive mask of a boolean one, (batch, queries, keys) -> (batch, 1, queries, keys).

    One by kind of layer, if there are several; of a family that stacks them both kinds in one,
    (batch, 2, queries, keys). `queries` and `keys` are places in texts, (batch, queries) and (batch, keys).
    """
    stacked = family.stacked_masks
    window = getattr(config, stacked) if stacked else getattr(config, "sliding_window", None)
    every = SLIDING if window and family.windowed else FULL
    kinds = [FULL, SLIDING] if stacked else getattr(config, "layer_types", None) or [every]
    masks = {}
    for kind in dict.fromkeys(kinds):
        seen = allowed
        if kind == SLIDING:
            seen = allowed & (queries[:, :, None] - keys[:, None, :] < window)
        mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        masks[kind] = mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
    if stacked:
        return torch.cat(list(masks.values()), dim=1)
    return masks if len(masks) > 1 else masks[kind]
