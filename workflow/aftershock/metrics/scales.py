"""Ranges of the values of metrics."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Range of a metric: possible values (`least` to `most`) and usual ones (`low` to `high`)."""

    low: float
    high: float
    least: float = -math.inf
    most: float = math.inf


SHARE = Scale(0, 1, 0, 1)
DROP = Scale(-1, 1, most=1)
NATS = Scale(0, math.log(2), 0, math.log(2))
DIFFERENCE = Scale(-1, 1)
GAP = Scale(-1, 1, -1, 1)
COUNT = Scale(0, 10, 0)
