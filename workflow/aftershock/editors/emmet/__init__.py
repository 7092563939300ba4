"""EMMET: ROME's equality constraints for many facts at once (Gupta et al., 2024)."""

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.multi_layer_settings import MultiLayerSettings, middle_layers
from aftershock.editors.settings import STRICT, Auto, Layers, NotNegative, Positive


@dataclass(frozen=True, config=STRICT)
class EmmetSettings(MultiLayerSettings):
    """Equality-constrained mass model editing.

    With `lambda_e` above 0 an edit of several facts is MEMIT's with `lambda_e` times `mom2_weight`.
    """

    layers: Layers = (17,)
    mom2_weight: Positive | Auto = "auto"
    """Weight of the second moments (lambda_0); GPT2-XL's published one is 1000. auto: the one with which an
    edit is MEMIT's with `mom2_weight: auto`."""
    lambda_e: NotNegative = 0.1
    """Weight that relaxes the equality constraints; 0 has them met in full, which takes linearly independent
    keys.
    """
    damp_single: bool = False
    """True if `lambda_e` also holds for a single fact, as in EasyEdit; the authors' code meets it in full."""
    ridge: NotNegative = 0.0
    """Weight of the change's squared norm, added to lambda_0 C (update_norm_lambda of the released code)."""


METHOD = Method(
    settings=EmmetSettings,
    editor=".edit:Emmet",
    title="EMMET",
    source="Gupta et al. (2024)",
    changes="rank of the number of requests at one or several MLP output matrices",
    paper="the equality constraint of a single fact is met in full, as in the authors' code",
    released="EasyEdit relaxes it too, which makes EMMET MEMIT with another weight of the second moments: "
    "`damp_single: true`",
    artifacts=("moments",),
    layers=middle_layers,
    layers_like="memit",
    layer_loop=True,
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0, "mom2_weight": 1e-2},
    recorded={"mom2_update_weight": "mom2_weight", "emmet_lambda": "lambda_e", "update_norm_lambda": "ridge"},
)
