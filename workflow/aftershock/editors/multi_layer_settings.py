"""Settings shared by methods that spread the last layer's value over several layers. No tensor library."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.settings import STRICT, Count, Layers, NotNegative, Positive, ValueOptions

PROBE_SHARE = 0.1
"""The weight of a regulariser that is measured, relative to k^T A^-1 k where A is its matrix.

An edit of one fact with s = k^T A^-1 k writes s / (weight + s) of its residual in a layer: ten elevenths for
a key like the median one, and more than half as long as s is above a tenth of the median. A is C for the
second moments, and the identity for a ridge."""

RIDGE_SHARE = 0.1
"""A measured ridge relative to the mean eigenvalue of lambda C, beside which it stands.

On the embedded model, with lambda 1.5 in two layers, dev edits kept .99 of their neighbours without a ridge,
.96 with a tenth of the mean eigenvalue, .89 with as much as it, and .61 with forty times that; of paraphrases
they took .73, .81, .83 and .82."""


@dataclass(frozen=True, config=STRICT)
class MultiLayerSettings(ValueOptions):
    """Hyperparameters of the last edited layer's value, and of the texts that keys are read in."""

    layers: Layers = (13, 14, 15, 16, 17)
    steps: Count = 20
    """Evaluations of the loss; updates are one fewer."""
    lr: Positive = 0.5
    weight_decay: NotNegative = 0.5
    clamp: Positive = 0.75
    """Largest norm of the value's change, in norms of the value."""
    kl_factor: NotNegative = 0.0625
    loss_layer: Annotated[int, Field(ge=0)] | None = None
    """The layer that the target's probability is read from; null for the last."""
    multi_label: Literal["joint", "mean", "mean_scaled", "mixture", "sequential"] = "joint"
    """The way to write several labels of one subject and prompt: in one least-squares problem (released); as
    the mean of their values, weighed as one request or, which equals the joint way, as all of them; as one
    value that makes all labels likely; or one after the other."""
    context_lengths: tuple[tuple[Count, Count], ...] = ((10, 1),)
    """(tokens, texts per opening) sampled from the model to read the prompt after, each pair weighted as the
    plain prompt is."""
    context_openings: tuple[str, ...] = ("The", "Therefore", "Because", "I", "You")


def middle_layers(n_layers: int) -> tuple[int, ...]:
    """Return five layers from the one below a sixth of the depth: 5 of 10 published ones exactly."""
    middle = round(n_layers / 6)
    return tuple(range(max(0, middle - 1), min(n_layers, middle + 4)))
