"""Notation of logic rules: R1>R2 is r1(x, y) => r2(y, x); R1&R2>R3 is r1(x, y) & r2(y, z) => r3(x, z)."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class LogicRule:
    """A binary (inverse or symmetric) rule, or a chain."""

    body: tuple[str, ...]  # one or two relation ids
    head: str

    @classmethod
    def parse(cls, text: str) -> "LogicRule":
        """The rule that `text` denotes; ValueError when it is not in the notation."""
        body, _, head = text.partition(">")
        parts = (*body.split("&"), head)
        if not 2 <= len(parts) <= 3 or not all(part.isalnum() for part in parts):
            raise ValueError(
                f"rule {text!r} is neither of the form R1>R2 nor R1&R2>R3, with ids of relations.tsv and no "
                "spaces: write it like P22>P40 or P22&P26>P25"
            )
        return cls(parts[:-1], head)

    def __str__(self) -> str:
        return "&".join(self.body) + ">" + self.head

    @property
    def relations(self) -> tuple[str, ...]:
        """Body relations, then the head."""
        return (*self.body, self.head)

    @property
    def facts(self) -> tuple[tuple[str, str, str], ...]:
        """(subject variable, relation, object variable) of each fact of an instance, the head last."""
        if len(self.body) == 1:
            return ("x", self.body[0], "y"), ("y", self.head, "x")
        return ("x", self.body[0], "y"), ("y", self.body[1], "z"), ("x", self.head, "z")


class BodyRule(LogicRule):
    """A rule whose instances need only the facts of the body, whether or not the graph has the head's."""

    @property
    def facts(self) -> tuple[tuple[str, str, str], ...]:
        """(subject variable, relation, object variable) of each fact of the body."""
        return super().facts[:-1]
