"""Time that passes only when somebody sleeps."""


class Clock:
    """A clock that notes how long it was slept for each time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
