"""Seconds of this folder's finished jobs, and the figures of their device that explain them best."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aftershock.budget.cost import Need
from aftershock.budget.devices import Device
from aftershock.budget.schedule import Job
from aftershock.budget.work import Work
from aftershock.jobs.record import FOLDER, finished_jobs

LEAST_JOBS, LEAST_RULES = 12, 4
"""Finished jobs, and rules among them, below which they say too little about a device."""


def measured_seconds(jobs: Sequence[Job], place: Path) -> list[float | None]:
    """Return what each job took, by its record; None for one that is not done, or whose outputs are gone.

    place: where the results of a run are.
    """
    found = {
        _key(record["rule"], record["wildcards"]): record["seconds"]
        for record in finished_jobs(place / FOLDER)
        if all((place / output).exists() for output in record.get("outputs", ()))
    }
    return [found.get(_key(job.rule, job.wildcards)) for job in jobs]


def _key(rule: str, wildcards: Mapping[str, object]) -> tuple[str, frozenset[tuple[str, str]]]:
    return rule, frozenset((name, str(value)) for name, value in wildcards.items())


def fit_device(
    device: Device, needs: Sequence[Need], rules: Sequence[str], seconds: Sequence[float]
) -> Device | None:
    """Return a device with the figures that explain what jobs took; None where they are too few.

    What jobs load counts to their start. Products in float64 keep their ratio to those of float32.
    """
    if len(seconds) < LEAST_JOBS or len(set(rules)) < LEAST_RULES:
        return None
    rows = [(need.work, took) for need, took in zip(needs, seconds, strict=True)]
    strict, bandwidth, layer, row, start = fit(rows, start=True)
    faster = strict / device.rates["strict"]
    return replace(
        device,
        rates={precision: rate * faster for precision, rate in device.rates.items()},
        bandwidth=bandwidth,
        pass_seconds=layer,
        row_seconds=row,
        start_seconds=start,
        measured=True,
    )


def fit(rows: Sequence[tuple[Work, float]], start: bool = False) -> tuple[float, ...]:
    """Return operations and bytes in a second, and seconds of a layer, of an observation and of a start.

    rows: works and the seconds that they took.
    start: True for works of whole jobs; else starting takes no time, and is left out.

    Figures are those not below zero with the least squares of relative errors. What takes no time in any row
    is taken for a millionth of the row that has most of it.
    """
    from scipy.optimize import nnls

    columns = [[w.flops, w.bytes, w.passes, w.rows, *([1.0] if start else [])] for w, _ in rows]
    needs = np.array(columns) / np.array([[seconds] for _, seconds in rows])
    scale = needs.max(axis=0).clip(min=1e-300)
    found = nnls(needs / scale, np.ones(len(rows)))[0] / scale
    slow = np.maximum(found, 1e-6 / scale)
    return 1 / slow[0], 1 / slow[1], *map(float, found[2:])
