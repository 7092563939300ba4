"""Work of passes through a model, from its sizes: FLOPs, bytes moved, layers run.

A multiplication and an addition are two operations. A pass through a layer of W weights takes 2 W for every
token, and 4 d for every position that the token attends to; the head takes 2 V d for every position that is
read. Gradients of the activations alone, the weights being frozen, cost as much again (Kaplan et al.,
2020, section 2.1, without the weights' own gradients).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

FLOAT = 4  # bytes of a float32, in which everything is computed
DOUBLE = 8
CPU_BYTES, DEVICE_SHARE = 1 << 30, 0.6  # of a batch, as in lm/memory.py
CONTEXT = 1024  # positions that the budget of a batch allows for, where a file does not say
HEAD_WIDTH = 64  # of attention, where a file does not say
TOUCHED = 3  # times that a layer's intermediate numbers are read or written, elementwise steps included
SCORED = 6  # likewise for a row of scores


@dataclass(frozen=True)
class Work:
    """Work of a computation: operations, bytes moved, and passes."""

    flops: float = 0.0
    """Products in the precision of the run."""
    exact: float = 0.0
    """Products in float64."""
    bytes: float = 0.0
    """Bytes read or written in memory."""
    passes: float = 0.0
    """Layers run, once for a batch; back as well as forth."""
    rows: float = 0.0
    """Observations made, each with its text."""

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, factor: float) -> "Work":
        return Work(*(getattr(self, f.name) * factor for f in fields(self)))


NOTHING = Work()


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model."""

    layers: int
    width: int
    inner: int
    vocabulary: int
    key_value: int
    """Width of keys and of values."""
    gated: bool = False
    """Two matrices enter the MLP, not one."""
    tied: bool = True
    """The head is the embedding."""
    known: bool = True
    """True if the sizes are in the model's file."""

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> "Sizes":
        """The sizes in a model's file; where it gives no `shape`, those of UNKNOWN."""
        if "architecture" in model:
            a = model["architecture"]
            d = a["n_embd"]
            return cls(a["n_layer"], d, a.get("n_inner", 4 * d), a["vocab_size"], d)
        shape = model.get("shape")
        layers = model.get("n_layers", UNKNOWN.layers)
        if shape is None:
            return UNKNOWN
        d = shape["width"]
        return cls(
            layers,
            d,
            shape["inner"],
            shape["vocabulary"],
            shape["key_value"] or d,
            shape["gated"],
            shape["tied"],
        )

    @property
    def layer(self) -> int:
        """Number of weights in the matrices of one layer."""
        return 2 * self.width * (self.width + self.key_value) + (2 + self.gated) * self.matrix

    @property
    def matrix(self) -> int:
        """Number of weights in one matrix of an MLP."""
        return self.width * self.inner

    @property
    def parameters(self) -> int:
        """Number of weights of all matrices; norms and biases do not count."""
        return self.layers * self.layer + self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices in float32."""
        return FLOAT * self.parameters

    def token_bytes(self, layers: int = 1, keys: float = 0.0) -> float:
        """Bytes per token where the intermediates of `layers` layers are kept; see lm/memory.py."""
        return FLOAT * layers * (10 * self.width + 3 * self.inner + 2 * keys * self.width / HEAD_WIDTH)


UNKNOWN = Sizes(32, 4096, 16384, 50432, 4096, tied=False, known=False)
"""Sizes assumed for a model without any: one of seven billion weights."""


@dataclass(frozen=True)
class Texts:
    """Assumed lengths, in tokens, of prompts and targets: names and sentences of an encyclopedia."""

    prompt: float = 9.0
    after: float = 4.0
    """Tokens of a prompt after its subject."""
    target: float = 2.5
    essence: float = 3.0
    """Tokens of "{} is a" from the subject's last token on."""
    document: float = 600.0
    """Tokens of a document of the text behind second moments."""


AVERAGE = Texts()


@dataclass(frozen=True)
class Room:
    """Memory budget of a batch on a device, in bytes; larger batches are no faster on a CPU."""

    budget: float
    accelerator: bool

    @classmethod
    def of(cls, memory: float, accelerator: bool, sizes: Sizes) -> "Room":
        """The budget on a device of `memory` bytes beside a loaded model."""
        if not accelerator:
            return cls(CPU_BYTES, False)
        return cls(max(DEVICE_SHARE * (memory - sizes.weight_bytes), 0.0), True)

    def batches(self, costs: float, largest: float, token_bytes: float, cpu_tokens: int) -> float:
        """Batches of rows that take `costs` bytes together, the `largest` of them in one batch at least.

        A processor takes `cpu_tokens` tokens at a time, of `token_bytes` each.
        """
        limit = self.budget if self.accelerator else min(self.budget, cpu_tokens * token_bytes)
        return max(1.0, costs / max(limit, largest))


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
    layers = max(0.0, layers)
    linear = tokens * layers * sizes.layer
    attention = tokens * layers * 2 * keys * sizes.width
    if narrow and layers:
        linear -= max(0.0, tokens - read) * (2 + sizes.gated) * sizes.matrix
    head = read * sizes.vocabulary * sizes.width
    back = 2 if backward else 1
    moved = batches * (layers * sizes.layer + (head > 0) * sizes.vocabulary * sizes.width) * FLOAT
    moved += TOUCHED * tokens * layers * sizes.token_bytes(1, keys) + SCORED * FLOAT * read * sizes.vocabulary
    return Work(
        flops=2 * back * (linear + head) + 2 * attention * (3 if backward else 1),
        bytes=moved * back,
        passes=batches * layers * (3 if backward else 1),
    )


def texts_within(sizes: Sizes, room: Room, rows: float, width: float, read: float) -> float:
    """Number of batches for `rows` texts of `width` tokens, `read` of them scored, as in lm/scoring.py."""
    per_token = sizes.token_bytes(1, CONTEXT)
    cost = width * sizes.token_bytes(1, width) + 3 * read * sizes.vocabulary * FLOAT
    return math.ceil(room.batches(rows * cost, cost, per_token, 4096))
