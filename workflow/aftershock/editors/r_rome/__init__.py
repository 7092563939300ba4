"""r-ROME: ROME with one key for direction and division (Gupta et al., 2024)."""

from typing import Literal

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.rome import METHOD as ROME
from aftershock.editors.rome import RomeSettings, needs_moments
from aftershock.editors.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class RRomeSettings(RomeSettings):
    """ROME whose direction and key are one."""

    keys: Literal["prompt", "averaged"] = "prompt"
    """The key of the plain prompt alone, or the mean over all contexts, value included."""


METHOD = Method(
    settings=RRomeSettings,
    editor=".edit:RRome",
    title="r-ROME",
    source="Gupta et al. (2024)",
    changes="rank one at one MLP output matrix",
    artifacts=needs_moments,
    layers=ROME.layers,
    layers_like="rome",
    layer_loop=True,
    example=ROME.example,
)
