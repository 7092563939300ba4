"""PMET: precise model editing in a transformer (Li et al., 2024)."""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.multi_layer_settings import MultiLayerSettings, middle_layers
from aftershock.editors.settings import STRICT, Auto, NotNegative, Positive

KL_ENOUGH = 0.01
"""The divergence that ends a value whose target is the likeliest everywhere."""


def _each_once(modules: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(modules)) < len(modules):
        raise ValueError("a module is named twice")
    return modules


Modules = Annotated[tuple[Literal["attention", "mlp"], ...], Field(min_length=1), AfterValidator(_each_once)]


@dataclass(frozen=True, config=STRICT)
class PmetSettings(MultiLayerSettings):
    """Values of the attention and of the MLP, optimised together; as a rule the MLP's alone is written."""

    clamp: Positive = 1.0
    """Largest norm of each change, in norms of the output that it is added to."""
    nll_factor: NotNegative = 1.0
    """Weight of the target in the loss. It is a tenth of this in the step after one in which every target
    token is the likeliest one after every context."""
    modules: Modules = ("mlp",)
    """The output projections that are written, in order."""
    mom2_weight: Positive | Auto = "auto"
    """Weight of the second moments against the keys of the edit (lambda); GPT2-XL's published one is 15000.
    auto: as MEMIT's, for each module and layer."""
    variant: Literal["paper", "released"] = "paper"
    """The divergence that ends a value whose target is the likeliest everywhere: 0.01, or, in EasyEdit,
    0.01 when multiplied by kl_factor, which is 0.16 at a factor of 0.0625."""

    @property
    def kl_enough(self) -> float:
        """The divergence that ends a value whose target is the likeliest everywhere."""
        if self.variant == "paper":
            return KL_ENOUGH
        return KL_ENOUGH / self.kl_factor if self.kl_factor else math.inf


def needs_moments(settings: PmetSettings) -> tuple[str, ...]:
    """Return the artifacts that an edit needs: second moments, of attentions too where these are written."""
    return ("attention_moments", "moments") if "attention" in settings.modules else ("moments",)


METHOD = Method(
    settings=PmetSettings,
    editor=".edit:Pmet",
    title="PMET",
    source="Li et al. (2024)",
    changes="rank of the number of requests at several output matrices of MLPs, and of attentions if so set",
    paper="a value whose target is the likeliest everywhere ends at a divergence of 0.01",
    released="at 0.01 divided by the divergence's weight",
    artifacts=needs_moments,
    layers=middle_layers,
    layers_like="memit",
    layer_loop=True,
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0, "mom2_weight": 1e-3},
    recorded={"mom2_update_weight": "mom2_weight", "nll_loss_factor": "nll_factor"},
)
