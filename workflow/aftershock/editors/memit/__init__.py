"""MEMIT: mass-editing memory in a transformer (Meng et al., 2023)."""

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.multi_layer_settings import MultiLayerSettings, middle_layers
from aftershock.editors.settings import STRICT, Auto, Positive


@dataclass(frozen=True, config=STRICT)
class MemitSettings(MultiLayerSettings):
    """Mass-editing memory in a transformer: the last layer's value, spread over several layers."""

    mom2_weight: Positive | Auto = "auto"
    """Weight of the second moments against the keys of the edit (lambda); GPT2-XL's published one is 20000.
    auto: PROBE_SHARE of the median k^T C^-1 k of the keys of well-known subjects, layer by layer
    (`lm.statistics.probe_keys`)."""
    previous_keys: bool = False
    """True if an edit also preserves the layer's outputs at the keys of earlier ones, as the released code of
    AlphaEdit (Fang et al., 2025) has it for MEMIT.
    """


METHOD = Method(
    settings=MemitSettings,
    editor=".edit:Memit",
    title="MEMIT",
    source="Meng et al. (2023)",
    changes="rank of the number of requests at several MLP output matrices",
    paper="several labels are one least-squares problem",
    released="the same",
    artifacts=("moments",),
    layers=middle_layers,
    layer_loop=True,
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0, "mom2_weight": 1e-3},
    recorded={"mom2_update_weight": "mom2_weight"},
)
