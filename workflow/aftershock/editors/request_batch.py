"""Requests of several cases as rows of least-squares problems, one problem for each case."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aftershock.requests import EditRequest


@dataclass(frozen=True)
class RequestBatch:
    """The requests of all cases in N units: the requests of a unit are one row of a case's problem."""

    units: list[list[EditRequest]]
    owner: Tensor  # (N,), the case of each unit
    slot: Tensor  # (N,), its place in that case
    weight: Tensor  # (N,), how many rows it counts for, float64

    @classmethod
    def of(
        cls, cases: Sequence[Sequence[EditRequest]], multi_label: str, device: torch.device
    ) -> "RequestBatch":
        """Make a unit of each request if "joint", else of those of a case that share prompt and subject."""
        units: list[list[EditRequest]] = []
        owner, slot = [], list[int]()
        for i, case in enumerate(cases):
            mine: dict[object, list[EditRequest]] = {}
            for j, request in enumerate(case):
                mine.setdefault(
                    j if multi_label == "joint" else (request.prompt, request.subject), []
                ).append(request)
            units += mine.values()
            owner += [i] * len(mine)
            slot += range(len(mine))
        weight = [float(len(unit)) if multi_label == "mean_scaled" else 1.0 for unit in units]
        return cls(
            units,
            torch.tensor(owner, device=device),
            torch.tensor(slot, device=device),
            torch.tensor(weight, device=device, dtype=torch.float64),
        )

    def by_case(self, rows: Tensor, failed: Tensor) -> Tensor:
        """Rows of units, (N, width), times the roots of their weights, as (cases, n, width), float64.

        `failed` (cases,) are zeros, as is the rest of a case with fewer than n units.
        """
        found = rows.new_zeros(len(failed), int(self.slot.max()) + 1, rows.shape[1], dtype=torch.float64)
        lost = failed[self.owner, None]
        found[self.owner, self.slot] = rows.double().masked_fill(lost, 0.0) * self.weight.sqrt()[:, None]
        return found


def mean_by(rows: Tensor, unit: Tensor) -> Tensor:
    """Return the mean of the rows of each unit, (n, width) -> (units, width)."""
    if len(unit) == int(unit[-1]) + 1:
        return rows
    total = rows.new_zeros(int(unit[-1]) + 1, rows.shape[1]).index_add(0, unit, rows)
    return total / torch.bincount(unit)[:, None]
