"""Work of passes through a model, of scoring and of generating.

A multiplication and an addition are two operations. A pass through a layer of W weights takes 2 W for every
token, and the head 2 V d for every position that is read. Gradients of the activations cost as much again,
those of the weights once more (Kaplan et al., 2020, section 2.1). What attention adds is left out: of texts
of some hundred tokens a few per cent.
"""

from dataclasses import astuple, dataclass

from aftershock.config.sizes import FLOAT, Sizes

TOUCHED, SCORED = 3, 6  # times that a layer's numbers, and a row of scores, are read or written
PROMPT, TARGET = 9.0, 2.5  # tokens of a prompt and of a target: sentences and names of an encyclopedia
BATCH_TOKENS = 2048  # that are processed at a time, where there are so many
FORWARD, FROZEN, TRAINED = 1, 2, 3  # forward alone; with gradients of activations; with those of weights too


@dataclass(frozen=True)
class Work:
    """Work of a computation.

    flops: products in the precision of the run; exact: in float64. bytes: read or written in memory.
    passes: layers run, once for a batch. rows: observations made, each with its text.
    """

    flops: float = 0.0
    exact: float = 0.0
    bytes: float = 0.0
    passes: float = 0.0
    rows: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> "Work":
        return Work(*(value * factor for value in astuple(self)))


def run(
    sizes: Sizes,
    tokens: float,
    read: float = 0.0,
    layers: float | None = None,
    kind: int = FORWARD,
    batches: float = 1.0,
) -> Work:
    """Return the work of `tokens` tokens through `layers` layers, all by default.

    `read` positions go on to the head. kind: FORWARD, FROZEN or TRAINED. batches: at least so many.
    """
    layers = sizes.layers if layers is None else layers
    batches, head = max(batches, tokens / BATCH_TOKENS), sizes.vocabulary * sizes.width
    moved = batches * (layers * sizes.layer + head * (read > 0)) * FLOAT
    moved += TOUCHED * tokens * layers * sizes.token_bytes + SCORED * FLOAT * read * sizes.vocabulary
    flops = 2 * (tokens * layers * sizes.layer + read * head)
    passes = batches * layers * (2 * kind - 1)  # a backward pass starts twice as many operations
    return Work(flops=kind * flops, bytes=kind * moved, passes=passes)


def score(
    sizes: Sizes, prompts: float, targets: float, width: float = PROMPT, states: float = 1, unchanged: int = 0
) -> Work:
    """Return the work of scoring `targets` objects after each of `prompts` prompts in several states.

    width: tokens of a prompt. unchanged: number of layers that are run once for all states.
    """
    more = targets * (TARGET - 1)
    tokens = prompts * (width + more)
    above = run(sizes, tokens, prompts * (1 + more), sizes.layers - unchanged)
    return run(sizes, tokens, layers=unchanged) + (above + Work(rows=prompts * targets)) * states


def generate(sizes: Sizes, texts: float, prompt: float, tokens: int, together: float = 1) -> Work:
    """Return the work of continuing prompts of `prompt` tokens by `tokens` tokens, `together` at a time."""
    batches = max(1.0, texts / together) * (texts > 0)
    step = run(sizes, texts, texts, batches=batches)
    return (run(sizes, texts * prompt, batches=batches) + step * tokens) * (tokens > 0)
