"""MEMIT: mass-editing memory in a transformer (Meng et al., 2023)."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Auto, Count, Layers, NotNegative, Positive

PROBE_SHARE = 0.1
"""lambda relative to k^T C^-1 k where it is measured.

An edit of one fact with s = k^T C^-1 k writes s / (lambda + s) of its residual in a layer: ten elevenths for
a key like the median one, and more than half as long as s is above a tenth of the median."""


@dataclass(frozen=True, config=STRICT)
class MemitSettings:
    """Mass-editing memory in a transformer: the last layer's value, spread over several layers."""

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
    mom2_weight: Positive | Auto = "auto"
    """Weight of the second moments against the keys of the edit (lambda); GPT2-XL's published one is 20000.
    auto: PROBE_SHARE of the median k^T C^-1 k of the keys of well-known subjects (`lm.probe_keys`), layer by
    layer."""
    multi_label: Literal["joint", "mean", "mean_scaled", "mixture", "sequential"] = "joint"
    """How several labels of one subject and prompt are written: in one least-squares problem (released); as
    the mean of their values, weighed as one request or, which equals the joint way, as all of them; as one
    value that makes all labels likely; or one after the other."""
    context_lengths: tuple[tuple[Count, Count], ...] = ((10, 1),)
    """(tokens, texts per opening) sampled from the model to read the prompt after, each pair weighted as the
    plain prompt is."""
    context_openings: tuple[str, ...] = ("The", "Therefore", "Because", "I", "You")


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return five layers from the one below a sixth of the depth: 4 of 9 published ones exactly."""
    middle = round(n_layers / 6)
    return tuple(range(max(0, middle - 1), min(n_layers, middle + 4)))


METHOD = Method(
    settings=MemitSettings,
    editor=".edit:Memit",
    title="MEMIT",
    source="Meng et al. (2023)",
    changes="rank of the number of requests at several MLP output matrices",
    artifacts=("moments",),
    layers=_layers,
    layer_loop=True,
    cost="multi-layer",
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0, "mom2_weight": 1e-3},
)
