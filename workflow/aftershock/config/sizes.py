"""Sizes of a model, as its file has them, and what follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FLOAT, DOUBLE = 4, 8  # bytes of a number


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model: `key_value` is the width of keys; a `gated` MLP begins with two matrices."""

    layers: int
    width: int
    inner: int
    vocabulary: int
    key_value: int
    gated: bool = False
    tied: bool = True

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> "Sizes":
        """Return the sizes in a model's file, those of UNKNOWN where it gives none."""
        if a := model.get("architecture"):
            d = a["n_embd"]
            return cls(a["n_layer"], d, a.get("n_inner", 4 * d), a["vocab_size"], d)
        if (shape := model.get("shape")) is None:
            return UNKNOWN
        keys = shape["key_value"] or shape["width"]
        return cls(model.get("n_layers", UNKNOWN.layers), **{**shape, "key_value": keys})

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
    def token_bytes(self) -> int:
        """Bytes of a token's intermediates in one layer."""
        return FLOAT * (10 * self.width + 3 * self.inner)


UNKNOWN = Sizes(32, 4096, 16384, 50432, 4096, tied=False)
"""Sizes assumed for a model without any: one of seven billion weights."""
