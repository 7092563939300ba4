"""Seconds of editing jobs, from their records."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def seconds_per_case(timings: Sequence[Mapping[str, Any]], run: Mapping[str, Any], kg: str) -> float:
    """Seconds that the editing jobs of one run took, by case; empty where no timing of them was kept.

    `timings` has one record per job, as results/jobs/ has. A job makes every edit of its cases and scores
    every probe in every state: what differs between methods is editing. The time before its first case, in
    which it loads the model, is left out where the record has it.
    """
    wanted = {"kg": kg, **{key: str(value) for key, value in run.items()}}
    jobs = [
        job
        for job in timings
        if job["rule"] == "edit" and all(job["wildcards"].get(key) == value for key, value in wanted.items())
    ]
    cases = sum(_cases(job["wildcards"]["shard"]) for job in jobs)
    return sum(_seconds(job) for job in jobs) / cases if cases else np.nan


def _seconds(job: Mapping[str, Any]) -> float:
    seconds, done = job.get("began") or (0.0, 0)
    return float(job["seconds"] - (seconds if done == 0 else 0.0))


def _cases(shard: str) -> int:
    first, last = map(int, shard.split("-"))
    return last - first + 1
