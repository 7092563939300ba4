"""Helpers of deltas that read a whole prompt and include those before them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from aftershock.lm.edits.delta import Batch, CaseTensors

Memories = TypeVar("Memories", bound=CaseTensors)


def prompt_tokens(batch: Batch, n_columns: int) -> Tensor:
    """True for the columns of the first pass that are a prompt's tokens, (rows, columns).

    ValueError where the pass does not run all of a prompt.
    """
    places = batch.positions
    if places is None:
        places = torch.arange(n_columns, device=batch.ids.device).expand(len(batch.ids), -1)
    found = places <= batch.prompt_ends[:, None]
    if not torch.equal(found.sum(dim=1), batch.prompt_ends + 1):
        raise ValueError(
            "the state has a memory that decides by a whole prompt, and a pass begins inside one; edit with "
            "this method first, or on a model without such a memory"
        )
    return found


def mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """Means of `values` (rows, columns, ...) over the columns that are true in `counted` (rows, columns)."""
    weights = counted.to(values.dtype)
    while weights.ndim < values.ndim:
        weights = weights[..., None]
    return (values * weights).sum(dim=1) / weights.sum(dim=1)


def newest(later: Memories, earlier: Memories, holds: Tensor) -> Memories:
    """The `later` memories in the cases that are true in `holds` (B,), in the others the `earlier` ones."""
    one, other = _alike([later, earlier])
    chosen = {
        name: torch.where(holds.view(-1, *[1] * (tensor.ndim - 1)), tensor, other[name])
        for name, tensor in one.items()
    }
    return replace(cast(Any, later), **chosen)


def beside(parts: Sequence[Memories]) -> Memories:
    """The cases of all `parts`, one part after the other."""
    alike = _alike(parts)
    joined = {name: torch.cat([tensors[name] for tensors in alike]) for name in alike[0]}
    return replace(cast(Any, parts[0]), **joined)


def _alike(parts: Sequence[CaseTensors]) -> list[dict[str, Tensor]]:
    """The tensors of some memories, those with fewer entries than others padded with zeros."""
    found = [part.tensors() for part in parts]
    for name in found[0]:
        sizes = [max(sizes) for sizes in zip(*(tensors[name].shape[1:] for tensors in found), strict=True)]
        for tensors in found:
            missing = [want - have for want, have in zip(sizes, tensors[name].shape[1:], strict=True)]
            padding = [side for size in reversed(missing) for side in (0, size)]
            tensors[name] = torch.nn.functional.pad(tensors[name], padding)
    return found
