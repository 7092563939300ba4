"""One job of a study, as it is planned."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One job: what it is, a file that it makes, and the groups of jobs that it waits for."""

    rule: str
    wildcards: Mapping[str, str]
    output: str
    group: str
    after: tuple[str, ...]
