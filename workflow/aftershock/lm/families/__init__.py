"""Model families: names of their modules, and orientation of their weights.

A family is a module of this package, called as `model_type` in the model's configuration, with a `Family`
named FAMILY. Families are found, not listed: a new one is a new file. Nothing here loads a tensor library.
"""

import pkgutil
import re
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """Module names of one architecture; `{}` stands for the layer number."""

    layer: str
    mlp: str
    projection: str  # the MLP's last matrix, from inner width d_in to model width d_out
    inputs: tuple[str, ...]  # the MLP's first matrices, in the model's order
    attention_projection: str  # the attention's last matrix, from the width of its heads to model width
    norm: str  # before the head
    mlp_norm: str | None = None  # applied to the MLP's output before it joins the residual stream
    mlp_scale: str | None = None  # an entry of the configuration that it is multiplied with there
    transposed: bool = False  # weights are stored (d_in, d_out), as in GPT-2's Conv1D
    tuples: bool = False  # a layer returns its hidden states in a tuple
    windowed: bool = False  # without `layer_types`, all layers have the configuration's window
    joined: bool = False  # the gate and the other first matrix are one
    stacked_masks: str | None = (
        None  # the window's entry where every layer gets both masks, without and with it
    )
    shown_positions: bool = False  # without positions given, tokens count those that the mask shows
    needs: tuple[tuple[str, Any], ...] = ()  # entries of the configuration, and the only values known here

    @property
    def changes_output(self) -> bool:
        """True if an MLP's output is scaled or normed before it joins the residual stream."""
        return self.mlp_norm is not None or self.mlp_scale is not None

    @property
    def gated(self) -> bool:
        """True if an MLP's inner activations are multiplied with those of a gate."""
        return self.joined or len(self.inputs) == 2

    @property
    def sites(self) -> dict[str, str]:
        """The MLP's matrices by their place: `gate` and `up`, or `in` where one matrix enters, and `out`."""
        first = ("gate", "up") if len(self.inputs) == 2 else ("in",)
        return dict(zip((*first, "out"), (*self.inputs, self.projection), strict=True))

    def weight(self, module: "nn.Module") -> "Tensor":
        """Return a view of the weight of a projection, (d_out, d_in), or of a norm, (d,)."""
        return module.weight.T if self.transposed and module.weight.ndim == 2 else module.weight


GATED = Family(
    layer="model.layers.{}",
    mlp="model.layers.{}.mlp",
    projection="model.layers.{}.mlp.down_proj",
    inputs=("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"),
    attention_projection="model.layers.{}.self_attn.o_proj",
    norm="model.norm",
)
"""The names that Llama introduced and many later families kept."""

GATED_POST_NORM = replace(GATED, mlp_norm="model.layers.{}.post_feedforward_layernorm")
"""Names as in GATED, with the MLP's output normalised before it joins the residual stream."""


def list_families() -> list[str]:
    """Return the model types that have a family, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def family_of(model_type: str) -> Family:
    """Return the family of a `model_type`; ValueError naming the known ones."""
    if model_type not in list_families():
        raise ValueError(
            f"unknown model type {model_type!r}; known: {', '.join(list_families())} "
            f"(a file lm/families/{model_type}.py adds it)"
        )
    return import_module(f"{__name__}.{model_type}").FAMILY


def check_sizes(family: Family, config: Any) -> None:
    """Raise ValueError for a form of the architecture that the family does not cover."""
    for name, known in family.needs:
        if (found := getattr(config, name, known)) != known:
            raise ValueError(
                f"its {name} is {found!r}, and a model of type {config.model_type} can only be edited where "
                f"that is {known!r}; take another size"
            )


def layer_number(module: str) -> int | None:
    """Return the number of the layer that a module belongs to or is; None outside the layers.

    In every family it is the first number among the parts of the name.
    """
    found = re.search(r"\.(\d+)(?:\.|$)", module)
    return int(found[1]) if found else None
