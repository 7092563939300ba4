"""NSE: editing of selected neurons only, in several passes over the layers (2024)."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.multi_layer_settings import MultiLayerSettings, middle_layers
from aftershock.editors.settings import STRICT, Auto, Count, NotNegative, Positive


@dataclass(frozen=True, config=STRICT)
class NseSettings(MultiLayerSettings):
    """MEMIT on the neurons that fire most, repeated for requests that are still far from their values."""

    mom2_weight: Positive | Auto = "auto"
    """Weight of the second moments against the keys of the edit (lambda); GPT2-XL's published one is 10000.
    auto: as MEMIT's."""
    neuron_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the keys' absolute values that the written neurons make up (p): the largest ones first. 1, the
    published value for GPT2-XL and Llama 3, is all neurons; GPT-J's is 0.8."""
    max_iterations: Annotated[int, Field(ge=2)] = 3
    """Measurements of how far requests are from their values; passes over the layers are one fewer."""
    min_distance: NotNegative = 0.0
    """A request that is no further than this from its value is left out of a pass (alpha); 0: none is.
    GPT2-XL's published one is 35, GPT-J's 15, Llama 3's 2.5."""
    max_distance: Positive | None = None
    """Neither is one written that is as far as this (upper_bound); null: no limit. GPT2-XL's published one is
    150, GPT-J's 100, Llama 3's 50."""
    previous_keys: bool = True
    """True if an edit also leaves alone what was written at the keys of earlier ones (S)."""
    variant: Literal["paper", "released"] = "paper"
    """released: neurons are counted in float32, so that of all of them the last one may be missing."""
    threads: Count = 1
    """Parts of the neurons whose values the released variant adds up apart, as so many threads do."""


METHOD = Method(
    settings=NseSettings,
    editor=".edit:Nse",
    title="NSE",
    source="arXiv 2410.02433",
    changes="rank of the requests times the passes at some neurons of several MLP output matrices",
    paper="all neurons at `neuron_share: 1`",
    released="rounding decides whether the last one is written; with one and with two threads changes differ "
    "by .27 of their norm",
    artifacts=("moments",),
    layers=middle_layers,
    layers_like="memit",
    layer_loop=True,
    passes=lambda settings: settings.steps + settings.max_iterations * len(settings.layers),
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0, "mom2_weight": 1e-3},
    recorded={
        "mom2_update_weight": "mom2_weight",
        "neuron_threshold": "neuron_share",
        "max_iterations": "max_iterations",
        "alpha": "min_distance",
        "upper_bound": "max_distance",
    },
)
