"""Settings of intervals, tests and corrections."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """`seed` draws resamples and permutations; `level` is that of intervals, 1 - `level` that of tests."""

    seed: int = 0
    resamples: int = 2000
    permutations: int = 19999
    level: float = 0.95
    power: float = 0.8
    correction: str = "westfall_young"
    """westfall_young, holm, benjamini_hochberg or none; where tests have no flips in common the first is
    Holm's."""

    @property
    def alpha(self) -> float:
        """Significance level: the accepted rate of false positives."""
        return 1 - self.level


DEFAULTS = Statistics()
