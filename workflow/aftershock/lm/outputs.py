"""Changes of a model's next-token scores, applied after its head.

No weight holds such a change: it may let another model answer. It gets the text that each score follows, and
applies wherever the scores of a changed model can be read: in scoring and in generation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Read:
    """The texts that scores follow: entry i the prompt of row `rows[i]` of a batch, then `behind[i]`."""

    rows: Sequence[int]
    behind: Sequence[tuple[int, ...]]  # token ids

    @classmethod
    def last(cls, ids: Tensor, length: int) -> "Read":
        """Return the texts `ids` (rows, seq) as wholes, whose first `length` tokens are prompts."""
        return cls(range(len(ids)), [tuple(row) for row in ids[:, length:].tolist()])


OutputChange = Callable[[Tensor, Read], Tensor]
"""Function of scores (entries, vocabulary) and the texts they follow; returns the changed scores."""
UNREAD = (
    "a delta changes what the model puts out, which only scoring and generation can read; an editor that "
    "optimises cannot start from it"
)
