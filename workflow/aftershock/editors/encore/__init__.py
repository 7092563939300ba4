"""ENCORE: lifelong editing with an early stop of values and a ridge (Gupta et al., 2025)."""

from typing import Literal

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.multi_layer_settings import MultiLayerSettings, middle_layers
from aftershock.editors.settings import STRICT, Auto, NotNegative, Passes, Positive, Probability


@dataclass(frozen=True, config=STRICT)
class EncoreSettings(MultiLayerSettings):
    """MEMIT with a ridge on the change and remembered keys; values end once their target is greedy."""

    prob_cutoff: Passes | Probability = -4
    """MPES, the most-probable early stop; -n ends a value at the n-th step at which its target is greedy."""
    mom2_weight: Positive | Auto = "auto"
    """Weight of the second moments against the keys of the edit (lambda); GPT2-XL's published one is 20000.
    auto: as MEMIT's."""
    ridge: NotNegative | Auto = "auto"
    """Weight of the change's squared norm (mu); GPT2-XL's published one is 10. auto: RIDGE_SHARE of the mean
    eigenvalue of lambda C, layer by layer."""
    previous_keys: bool = True
    """True if an edit also preserves the layer's outputs at the keys of earlier ones (S)."""
    variant: Literal["paper", "released"] = "paper"
    """In the released code five correct tokens count as the whole target, whatever its number of tokens."""


METHOD = Method(
    settings=EncoreSettings,
    editor=".edit:Encore",
    title="ENCORE",
    source="Gupta et al. (2025)",
    changes="rank of the number of requests at several MLP output matrices",
    paper="a value ends when all of its target is said",
    released="when five tokens of it are right, however many it has",
    artifacts=("moments",),
    layers=middle_layers,
    layers_like="memit",
    layer_loop=True,
    example={
        "steps": 12,
        "lr": 0.2,
        "weight_decay": 0.01,
        "clamp": 4.0,
        "mom2_weight": 1.0,
        "ridge": 1e-7,
        "previous_keys": False,  # with them an edit of the same fact preserves much of the one before
    },
    recorded={
        "mom2_update_weight": "mom2_weight",
        "update_norm_lambda": "ridge",
        "prob_cutoff": "prob_cutoff",
    },
)
