"""Memories of one case put behind others, cut off, or begun anew."""

from dataclasses import replace

import torch
from torch import Tensor

from aftershock.lm.edits.side_memory import EMPTY_MEMORY, SideMemory


def appended(memory: SideMemory, change: Tensor, threshold: float, used: bool) -> SideMemory:
    """The memory of one case with one more behind the others."""
    return replace(
        memory,
        changes=torch.cat([memory.changes, change[None, None]], dim=1),
        thresholds=torch.cat([memory.thresholds, memory.thresholds.new_full((1, 1), threshold)], dim=1),
        used=torch.cat([memory.used, memory.used.new_full((1, 1), used)], dim=1),
    )


def first_memories(memory: SideMemory, stop: int) -> SideMemory:
    """The first memories of one case."""
    names = ("changes", "thresholds", "used")
    return replace(memory, **{name: getattr(memory, name)[:, :stop] for name in names})


def emptied(memory: SideMemory, forget: bool) -> SideMemory:
    """The memory with a side memory that equals the matrix; its threshold is kept unless `forget`."""
    changes, thresholds = memory.changes.clone(), memory.thresholds.clone()
    changes[:, 0] = 0.0
    if forget:
        thresholds[:, 0] = EMPTY_MEMORY
    return replace(memory, changes=changes, thresholds=thresholds)
