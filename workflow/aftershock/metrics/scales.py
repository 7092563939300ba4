"""The values that metrics take."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """What values a metric can take (`least` to `most`) and usually takes (`low` to `high`)."""

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
