"""Work of passes through a model, from its sizes: FLOPs, bytes moved, layers run.

A multiplication and an addition are two operations. A pass through a layer of W weights takes 2 W for every
token, and 4 d for every position that the token attends to; the head takes 2 V d for every position that is
read. Gradients of the activations alone, the weights being frozen, cost as much again (Kaplan et al.,
2020, section 2.1, without the weights' own gradients).
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

FLOAT, DOUBLE = 4, 8  # bytes of a number
HEAD_WIDTH = 64  # of attention, where a file does not say
TOUCHED, SCORED = 3, 6  # times that a layer's numbers, and a row of scores, are read or written
PROMPT, TARGET = 9.0, 2.5  # tokens of a prompt and of a target: sentences and names of an encyclopedia
AFTER = 4.0  # tokens of a prompt after its subject
DOCUMENT = 600.0  # tokens of a document


@dataclass(frozen=True)
class Work:
    """Work of a computation.

    flops: products in the precision of the run; exact: in float64. bytes: read or written in memory.
    passes: layers run, once for a batch, back as well as forth. rows: observations made, each with its text.
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


NOTHING = Work()


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model.

    key_value: the width of keys and of values. gated: two matrices enter the MLP. tied: the head is the
    embedding. known: the sizes are in the model's file.
    """

    layers: int
    width: int
    inner: int
    vocabulary: int
    key_value: int
    gated: bool = False
    tied: bool = True
    known: bool = True

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> "Sizes":
        """The sizes in a model's file; where it gives no `shape`, those of UNKNOWN."""
        if "architecture" in model:
            a = model["architecture"]
            d = a["n_embd"]
            return cls(a["n_layer"], d, a.get("n_inner", 4 * d), a["vocab_size"], d)
        if (shape := model.get("shape")) is None:
            return UNKNOWN
        sizes = {name: shape[name] for name in ("width", "inner", "vocabulary", "gated", "tied")}
        keys = shape["key_value"] or shape["width"]
        return cls(model.get("n_layers", UNKNOWN.layers), key_value=keys, **sizes)

    @property
    def matrix(self) -> int:
        """Number of weights in one matrix of an MLP."""
        return self.width * self.inner

    @property
    def layer(self) -> int:
        """Number of weights in the matrices of one layer."""
        return 2 * self.width * (self.width + self.key_value) + (2 + self.gated) * self.matrix

    @property
    def parameters(self) -> int:
        """Number of weights of all matrices; norms and biases do not count."""
        return self.layers * self.layer + self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices in float32."""
        return FLOAT * self.parameters

    def token_bytes(self, layers: float = 1, keys: float = 0.0) -> float:
        """Bytes per token where the intermediates of `layers` layers are kept."""
        return FLOAT * layers * (10 * self.width + 3 * self.inner + 2 * keys * self.width / HEAD_WIDTH)


UNKNOWN = Sizes(32, 4096, 16384, 50432, 4096, tied=False, known=False)
"""Sizes assumed for a model without any: one of seven billion weights."""


def run(
    sizes: Sizes,
    batches: float,
    tokens: float,
    layers: float,
    keys: float,
    read: float = 0.0,
    narrow: bool = False,
    backward: bool = False,
) -> Work:
    """Work of `tokens` in `batches` batches through `layers` layers, each attending to `keys` positions.

    `read` positions go on to the head. With `narrow` only those pass through the last MLP. With `backward`
    gradients of the activations are taken as well.
    """
    layers, back = max(0.0, layers), 2 if backward else 1
    linear = tokens * layers * sizes.layer
    if narrow and layers:
        linear -= max(0.0, tokens - read) * (2 + sizes.gated) * sizes.matrix
    head = read * sizes.vocabulary * sizes.width
    attention = 4 * tokens * layers * keys * sizes.width
    moved = batches * (layers * sizes.layer + (head > 0) * sizes.vocabulary * sizes.width) * FLOAT
    moved += TOUCHED * tokens * layers * sizes.token_bytes(1, keys) + SCORED * FLOAT * read * sizes.vocabulary
    passes = 3 if backward else 1
    return Work(
        flops=2 * back * (linear + head) + passes * attention,
        bytes=back * moved,
        passes=batches * layers * passes,
    )
