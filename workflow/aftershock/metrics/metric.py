"""Definition of a metric."""

from dataclasses import dataclass

from aftershock.metrics.scales import SHARE, Scale


@dataclass(frozen=True)
class Metric:
    """One metric; `better` is up, down or empty, `percent` means that it is printed times 100."""

    name: str
    title: str
    about: str
    better: str = "up"
    scale: Scale = SHARE
    percent: bool = True
