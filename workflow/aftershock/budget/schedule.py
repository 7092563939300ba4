"""Makespan of jobs on several devices, each taking the longest job that may begin (Graham, 1969)."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A planned job: its rule, and the groups of jobs that it belongs to and waits for."""

    rule: str
    wildcards: Mapping[str, str]
    group: str
    after: tuple[str, ...] = ()


def makespan(jobs: Sequence[Job], seconds: Sequence[float], devices: int) -> float:
    """Seconds until the last job ends; a job begins once the groups of jobs that it waits for have ended."""
    left = Counter(job.group for job in jobs)
    waiting = {i: {name for name in job.after if left[name]} for i, job in enumerate(jobs)}
    ready = [(-seconds[i], i) for i in waiting if not waiting[i]]
    heapq.heapify(ready)
    followers: dict[str, list[int]] = {}
    for i, names in waiting.items():
        for name in names:
            followers.setdefault(name, []).append(i)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < devices:
            i = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + seconds[i], i))
        now, ended = heapq.heappop(running)
        group = jobs[ended].group
        left[group] -= 1
        if not left[group]:
            for i in followers.get(group, ()):
                waiting[i].discard(group)
                if not waiting[i]:
                    heapq.heappush(ready, (-seconds[i], i))
    return now


def critical_path(jobs: Sequence[Job], seconds: Sequence[float]) -> float:
    """Seconds with as many devices as jobs: the longest chain of jobs that wait for each other."""
    return makespan(jobs, seconds, max(1, len(jobs)))
