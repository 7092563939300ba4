"""Tensors that several processes read and write, in a file without a name: it goes with the last of them."""

import mmap
import os
from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes; products of the same numbers could differ in their last bits from other addresses

Layout = Mapping[str, tuple[str, list[int]]]
"""The type and the shape of each tensor, by name."""


def map_tensors(file: int, layout: Layout) -> dict[str, Tensor]:
    """Return the tensors that lie in a file one after the other; they are zero to begin with."""
    starts, end = {}, 0
    for name, (dtype, shape) in layout.items():
        starts[name] = end
        end = aligned(end + prod(shape) * getattr(torch, dtype).itemsize, ALIGNMENT)
    if os.fstat(file).st_size < end:
        os.ftruncate(file, end)
    mapped = mmap.mmap(file, end)
    return {
        name: torch.frombuffer(
            mapped, dtype=getattr(torch, dtype), count=prod(shape), offset=starts[name]
        ).view(shape)
        for name, (dtype, shape) in layout.items()
    }


def aligned(number: int, unit: int) -> int:
    """`number`, rounded up to a multiple of `unit`."""
    return -(-number // unit) * unit
