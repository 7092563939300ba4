"""Requests to a model: edits to make and facts to score."""

from dataclasses import dataclass

from aftershock.prompts import fill, split


@dataclass(frozen=True)
class EditRequest:
    """One fact to write: after `prompt` with `subject` in its slot, the model should answer `target_new`."""

    prompt: str
    subject: str
    target_new: str
    target_true: str = ""

    def __post_init__(self) -> None:
        split(self.prompt)
        for name in ("subject", "target_new"):
            if not getattr(self, name).strip():
                raise ValueError(f"edit request for {self.prompt!r} has an empty {name}")

    @property
    def text(self) -> str:
        """The prompt with its subject."""
        return fill(self.prompt, self.subject)


@dataclass(frozen=True)
class Query:
    """One target to score: its log-probability after `prompt`, in the state of case number `case`."""

    prompt: str
    target: str
    case: int = 0
