"""AlphaEdit: changes in the null space of the second moments, which text hardly uses (Fang et al., 2025)."""

from typing import Literal

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.multi_layer_settings import MultiLayerSettings, middle_layers
from aftershock.editors.settings import STRICT, Auto, Positive

THRESHOLD_SHARE = 0.35
"""The threshold that is measured, relative to the mean eigenvalue of the second moments."""


@dataclass(frozen=True, config=STRICT)
class AlphaEditSettings(MultiLayerSettings):
    """Null-space constrained editing: the last layer's value, spread over several layers."""

    threshold: Positive | Auto = "auto"
    """Eigenvalues of the second moments below it count as zero; 2e-2 in the released code, for every model.
    auto: THRESHOLD_SHARE of the mean eigenvalue, layer by layer."""
    l2: Positive | Auto = "auto"
    """Weight of the change's squared norm (L2); 10 in the released code. auto: PROBE_SHARE of the median
    squared norm of the projected keys of well-known subjects, layer by layer."""
    previous_keys: bool = True
    """True if an edit also preserves the layer's outputs at the keys of earlier ones."""
    variant: Literal["paper", "released"] = "paper"
    """The released code solves with the unsymmetric matrix P (K K^T + S) + L2 1, (d_in, d_in), by an LU in
    float32; the same solution lies in the null space, and is found there by a Cholesky factor in float64."""


METHOD = Method(
    settings=AlphaEditSettings,
    editor=".edit:AlphaEdit",
    title="AlphaEdit",
    source="Fang et al. (2025)",
    changes="rank of the number of requests at several MLP output matrices",
    paper="solved within the null space, in float64",
    released="an unsymmetric system over all of the width, in float32",
    artifacts=("null_space",),
    layers=middle_layers,
    layers_like="memit",
    layer_loop=True,
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0, "l2": 1.0},
    recorded={"nullspace_threshold": "threshold", "L2": "l2"},
)
