"""Batches of edited cases, what their texts keep in memory, and the averages that every estimate uses."""

from dataclasses import dataclass
from typing import Any

from aftershock.budget.work import AVERAGE, FLOAT, NOTHING, Room, Sizes, Texts, Work, run
from aftershock.editors.contract import layers_of

STEPS_MADE = 0.55
"""Share of its steps after which fine-tuning's loss is low enough (0.46 to 0.69 in the embedded study)."""
TOUCHED_BY_ADAM = 16 * FLOAT  # bytes read or written in a step for each trained weight, with what Adam keeps
PADDED = 1.2  # in batches of 6 edits of different lengths
VALUE_TOKENS, DENSE_TOKENS, GRADIENT_TOKENS = 1024, 512, 4096  # tokens that a CPU processes at a time


@dataclass(frozen=True)
class Editing:
    """Cases, each with some requests, that are edited in one batch."""

    sizes: Sizes
    room: Room
    settings: Any
    training: Any
    """MendTraining of the model's hypernetwork."""
    cases: float
    requests: float = 1.0
    texts: Texts = AVERAGE
    steps_made: float = STEPS_MADE

    @property
    def rows(self) -> float:
        """Number of requests of all cases."""
        return self.cases * self.requests

    @property
    def width(self) -> float:
        """Tokens of a prompt with its target, but for the last, which nothing follows."""
        return self.texts.prompt + self.texts.target - 1

    @property
    def padding(self) -> float:
        """Ratio of padded to real tokens in a batch: its texts are as wide as the longest."""
        return PADDED if self.rows > 1 else 1.0

    @property
    def above(self) -> int:
        """Number of layers from the lowest edited one on."""
        return self.sizes.layers - min(self.settings.layers)

    def kept(self, layers: int, before: float = 0.0) -> float:
        """Bytes of a text in `layers` layers and its scores, with `before` tokens before its prompt."""
        width = before + self.width
        scores = 4 * self.texts.target * self.sizes.vocabulary * FLOAT
        return width * self.sizes.token_bytes(layers, width) + scores

    def trained(
        self,
        batches: float,
        width: float,
        above: int,
        steps: float = 1.0,
        own: Work = NOTHING,
        texts: float = 1.0,
        read: float = 0.0,
    ) -> Work:
        """Work of texts run up to the highest `above` layers, and of steps forth and back through these.

        batches: of the texts, which are `width` tokens wide.
        steps: forth and back, with work of their `own` beside the passes.
        texts: of each request. read: tokens of each text whose scores are taken, by default its target's.
        """
        rows = self.rows * texts
        below = run(self.sizes, batches, rows * width, self.sizes.layers - above, width)
        read = rows * (read or self.texts.target)
        step = run(self.sizes, batches, rows * width, above, width, read, narrow=True, backward=True)
        return below + (step + own) * steps


def trained_weights(settings: Any, sizes: Sizes) -> int:
    """Weights that fine-tuning with `settings` changes: an MLP's last matrix in each layer, or all of it."""
    whole = getattr(settings, "parameters", None) == "layer"
    return len(layers_of(settings)) * (sizes.layer if whole else sizes.matrix)


def context_tokens(settings: Any) -> list[float]:
    """Number of tokens before the prompt in each context that it is read in."""
    openings = max(1, len(settings.context_openings))
    lengths = [tokens + 1.0 for tokens, count in settings.context_lengths for _ in range(count * openings)]
    return [0.0, *lengths]
