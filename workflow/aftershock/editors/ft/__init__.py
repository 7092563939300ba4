"""FT: fine-tuning of MLP output projections (the baseline of Meng et al., 2022; FT-M of EasyEdit)."""

from typing import Literal

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method, stopped_early
from aftershock.editors.settings import STRICT, Auto, Count, Layers, NotNegative, Positive

BOX_SHARE = 0.02
"""The largest change of a weight relative to the matrix's root mean square, where it is measured.

Of the shares tried on SmolLM2 the best one by edits written x neighbours kept, see docs/moments.md."""


@dataclass(frozen=True, config=STRICT)
class FtSettings:
    """Fine-tuning of MLP output projections, weight and bias, on the edit alone."""

    layers: Layers = (0,)
    objective: Literal["prompt_last", "target_new"] = "prompt_last"
    """Positions that target tokens are read at: all at the prompt's last (released), or each at its own."""
    padding: Literal["none", "left", "right"] = "none"
    """Side that the texts of one update are padded on, where the released code of target_new lets that count:
    `editors/ft/edit.py` says how. none: nothing depends on the texts beside one."""
    steps: Count = 25
    lr: Positive = 5e-4
    weight_decay: NotNegative = 0.0
    wd_power_law: tuple[float, float] | None = None
    """(a, b) for a weight decay of n^a e^b, where n is the number of requests of a case, instead of the above
    (the fine-tuning that MEMIT is compared with); null for none."""
    norm_constraint: Positive | Auto | None = "auto"
    """Largest change of any single weight; null for none. The published one of FT-L on GPT2-XL is 5e-4.
    auto: BOX_SHARE of the root mean square of the matrix, layer by layer."""
    batch_size: Count = 64
    """Requests of one case per update."""

    def __post_init__(self) -> None:
        if self.padding != "none" and self.objective != "target_new":
            raise ValueError(
                f"ft: padding {self.padding} is that of objective target_new; for prompt_last take none"
            )


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return the layer at two thirds of the depth: 3 of 6 published ones exactly."""
    return (min(n_layers - 1, round(2 * n_layers / 3)),)


METHOD = Method(
    settings=FtSettings,
    editor=".edit:Ft",
    title="FT",
    source="Meng et al. (2022), baseline FT and FT-L; FT-M of EasyEdit",
    changes="whole MLP output matrices, with bias",
    paper="each target token is read where it belongs (FT-M)",
    released="all at the prompt's last position, so that only the first is learned: `objective: prompt_last`"
    ". EasyEdit's FT-M takes the padding of shorter texts for a part of their prompts: `padding: right`",
    layers=_layers,
    change="matrices",
    passes=stopped_early,
    example={"steps": 5, "lr": 0.02, "norm_constraint": None, "objective": "target_new"},
)
