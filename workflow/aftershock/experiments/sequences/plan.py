"""Plans: which edits of a list are made together, starting from what, and where the model is looked at.

    mode        batch   at checkpoint n the model has
    sequential  1       edits 1 to n, made one after another
    sequential  b       edits 1 to n, made b at a time
    single      1       edit n alone
    single      b       edits n-b+1 to n, made at once
    single      all     edits 1 to n, made at once

In mode `single` every checkpoint starts from the unedited model, in mode `sequential` from the edits before.
Edits are counted from 1 in the order in which they are made; checkpoint 0 is the unedited model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from aftershock.seeds import generator

SEQUENTIAL, SINGLE = "sequential", "single"
ALL = "all"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Turn:
    """Edits that are made together."""

    number: int  # from 1
    before: int  # edits that the model has when the turn begins; 0: it is unedited
    positions: range  # of the edits, in the order in which they are made
    checkpoint: int | None  # the checkpoint that is reached with it

    @property
    def is_fresh(self) -> bool:
        """True if the turn starts from the unedited model."""
        return self.before == 0


@dataclass(frozen=True)
class Plan:
    """Schedule of edits: so many at a time, one turn upon the other or each upon the unedited model."""

    mode: str
    batch: int | None  # edits of a turn; None: all up to a checkpoint
    checkpoints: tuple[int, ...]  # numbers of edits, increasing; 0 is the unedited model
    orders: tuple[int, ...] = (0,)

    @classmethod
    def from_config(cls, settings: Mapping[str, Any]) -> "Plan":
        """Return the plan that an entry of `sequences` in the configuration describes."""
        batch = None if settings["batch"] == ALL else settings["batch"]
        return cls(settings["mode"], batch, tuple(settings["checkpoints"]), tuple(settings["orders"]))

    @property
    def edits(self) -> int:
        """The number of edits, that of the last checkpoint."""
        return max(self.checkpoints, default=0)

    @property
    def edited(self) -> tuple[int, ...]:
        """The checkpoints at which the model has been edited: all but 0."""
        return tuple(n for n in self.checkpoints if n)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, in their order."""
        return tuple(self._turns())

    def _turns(self) -> Iterator[Turn]:
        if self.mode == SINGLE:
            for number, n in enumerate(self.edited, start=1):
                yield Turn(number, 0, self.made_at(n), n)
            return
        step, reached = self.batch or self.edits, set(self.edited)
        for number, before in enumerate(range(0, self.edits, step), start=1):
            last = min(before + step, self.edits)
            yield Turn(number, before, range(before + 1, last + 1), last if last in reached else None)

    def made_at(self, checkpoint: int) -> range:
        """Return the positions of the edits that the model has at a checkpoint."""
        first = max(1, checkpoint - self.batch + 1) if self.mode == SINGLE and self.batch else 1
        return range(first, checkpoint + 1)

    def latest_at(self, checkpoint: int) -> range:
        """Return the positions of the edits of the turn that ends at a checkpoint."""
        return next((turn.positions for turn in self.turns if turn.checkpoint == checkpoint), range(0))

    def in_order(self, edits: Sequence[Item], order: int) -> list[Item]:
        """Return `edits`, those that the plan makes, as an order makes them: 0 as they are, others shuffled.

        ValueError where there are not as many as the last checkpoint says.
        """
        if len(edits) != self.edits:
            raise ValueError(f"the plan makes {self.edits} edits and was given {len(edits)}")
        if order == 0:
            return list(edits)
        return [edits[i] for i in generator(order, "order of edits").permutation(len(edits))]

    def groups(self, per_job: int | None = None) -> tuple[str, ...]:
        """Return the names `FIRST-LAST` of groups of checkpoints, `per_job` at most, that a job evaluates."""
        size = per_job or max(1, len(self.edited))
        return tuple(
            f"{part[0]:05d}-{part[-1]:05d}"
            for part in (self.edited[i : i + size] for i in range(0, len(self.edited), size))
        )

    def checkpoints_of(self, group: str) -> tuple[int, ...]:
        """Return the checkpoints of a group, by its name."""
        first, last = map(int, group.split("-"))
        return tuple(n for n in self.edited if first <= n <= last)

    def faults(self) -> Iterator[str]:
        """Yield what contradicts itself, each with the key that says it."""
        for before, n in pairwise(self.checkpoints):
            if n <= before:
                yield f"checkpoints: {n} comes after {before}; they must increase"
        if not self.edited:
            yield "checkpoints: no edit is made; give numbers of edits, such as [0, 10, 100]"
        if len(set(self.orders)) < len(self.orders):
            yield "orders: one stands twice"
        if self.mode == SEQUENTIAL and self.batch is None:
            yield "batch: all has no meaning in mode sequential; give a number, or mode: single"
        elif self.batch and self.batch > 1:
            for n in self.edited:
                if self.mode == SEQUENTIAL and n % self.batch:
                    yield f"checkpoints: {n} is inside a batch of {self.batch} edits; take a multiple of it"
                elif self.mode == SINGLE and n < self.batch:
                    yield f"checkpoints: {n} is fewer edits than the batch of {self.batch} that ends there"
