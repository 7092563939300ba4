"""LocFT-BF: fine-tuning of one layer or matrix on all requests, in batches over several passes (2025).

All requests of a case are one training set: edits are not made one after the other.
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method, stopped_early
from aftershock.editors.settings import STRICT, Count, Layers, NotNegative, Positive


@dataclass(frozen=True, config=STRICT)
class LocFtSettings:
    """Localised fine-tuning in the breadth-first order: pass by pass, each in shuffled batches."""

    layers: Layers = (33,)
    parameters: Literal["mlp_out", "layer"] = "mlp_out"
    """The MLP's last matrix, without its bias; or everything in the layer, norms and biases included."""
    append_eos: bool = True
    """True if the end-of-text token is a part of every target. Others leave it out (CrispEdit)."""
    steps: Count = 25
    """Passes over the requests at most."""
    lr: Positive = 5e-4
    weight_decay: NotNegative = 0.0
    batch_size: Count = 100
    """Requests of one case per update."""
    variant: Literal["paper", "released"] = "paper"
    """released: with the padding token that the released code adds, see the editor."""


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return the layer at 0.7 of the depth: 1 of 3 published exactly, another one within a layer."""
    return (min(n_layers - 1, int(0.7 * n_layers)),)


METHOD = Method(
    settings=LocFtSettings,
    editor=".edit:LocFt",
    title="LocFT-BF",
    source="arXiv:2509.22072",
    changes="a whole MLP output matrix, or a whole layer",
    paper="texts at their positions, the model's own tokens",
    released="a new padding token that takes part in the softmax; padding on the left that positions do not "
    "know of",
    layers=_layers,
    change="matrices",
    passes=stopped_early,
    example={"steps": 5, "lr": 0.02},
    recorded={
        "num_steps": "steps",
        "lr": "lr",
        "weight_decay": "weight_decay",
        "batch_size": "batch_size",
        "append_eos": "append_eos",
    },
)
