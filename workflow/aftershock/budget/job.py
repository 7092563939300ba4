"""One planned job of a study."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One job: its rule, a file that it makes, and the groups of jobs that it waits for."""

    rule: str
    wildcards: Mapping[str, str]
    output: str
    group: str
    after: tuple[str, ...]
