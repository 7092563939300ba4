"""LyapLock: sequential editing under a bound on the loss of what should stay (2025)."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.multi_layer_settings import MultiLayerSettings, middle_layers
from aftershock.editors.settings import STRICT, Auto, NotNegative, Positive

Unit = Literal["root", "loss", "one"]
"""The root of the loss allowed, this loss itself, or 1: "sqrtD", "D" and numbers in the released code."""


@dataclass(frozen=True, config=STRICT)
class LyapLockSettings(MultiLayerSettings):
    """MEMIT whose weight of the second moments grows while the weights are too far from the unedited ones."""

    mom2_weight: Positive | Auto = "auto"
    """Weight of the second moments in the first edit (lambda); 1000 in the released code, for every model.
    auto: as MEMIT's."""
    alpha: Positive = 60.0
    """The preservation loss that is allowed, relative to the one after the first edit."""
    edit_weight: Positive = 1.0
    """Weight of new and earlier edits against the second moments, from the second edit on (V)."""
    queue_step: Positive = 1.0
    """Change of the queue per preservation loss (a), times `queue_step_unit`."""
    queue_step_unit: Unit = "root"
    queue_start: NotNegative = 1.0
    """Length of the queue before the first edit (Z), in `queue_start_unit`."""
    queue_start_unit: Unit = "root"
    queue_floor: NotNegative = 1.0
    """Smallest length of the queue (z_max), in `queue_floor_unit`."""
    queue_floor_unit: Unit = "root"
    queue_drift: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Added to the queue after each edit (b)."""
    multi_label: Literal["joint", "mean", "mean_scaled", "mixture"] = "joint"
    """As MEMIT's, except one after the other: those would be edits of their own here."""


METHOD = Method(
    settings=LyapLockSettings,
    editor=".edit:LyapLock",
    title="LyapLock",
    source="wpwpwpyo/LyapLock (2025)",
    changes="rank of the number of requests at several MLP output matrices; from the second edit on more",
    paper="second moments in float64, and no others",
    released="three moments, rounded to float32: a change differs by up to 3e-5",
    artifacts=("moments",),
    layers=middle_layers,
    layers_like="memit",
    layer_loop=True,
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0, "mom2_weight": 1e-3},
    recorded={
        "mom2_update_weight": "mom2_weight",
        "alpha": "alpha",
        "V": "edit_weight",
        "a": "queue_step",
        "Z": "queue_start",
        "zmax": "queue_floor",
        "b": "queue_drift",
    },
)
