"""Model families: what their modules are called, and which way round they store weights.

This is the one place that knows a family by its name. A new family is one entry.
"""

import re
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """Module names of one architecture; `{}` stands for the layer number."""

    layer: str
    mlp: str
    projection: str  # the MLP's last matrix, from inner width d_in to model width d_out
    inputs: tuple[str, ...]  # the MLP's first matrices, in the model's order
    norm: str  # before the head
    mlp_norm: str | None = None  # what the MLP's output goes through before it joins the residual stream
    transposed: bool = False  # weights are stored (d_in, d_out), as in GPT-2's Conv1D
    tuples: bool = False  # a layer returns its hidden states in a tuple

    def weight(self, module: nn.Module) -> Tensor:
        """A view of the weight of a projection, (d_out, d_in)."""
        return module.weight.T if self.transposed else module.weight


GATED = Family(
    layer="model.layers.{}",
    mlp="model.layers.{}.mlp",
    projection="model.layers.{}.mlp.down_proj",
    inputs=("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"),
    norm="model.norm",
)
"""The names that Llama began and many later families kept."""

POST_NORM = replace(GATED, mlp_norm="model.layers.{}.post_feedforward_layernorm")
"""The same with the MLP's output normalised before it joins the residual stream."""

FAMILIES = {
    "gpt2": Family(
        layer="transformer.h.{}",
        mlp="transformer.h.{}.mlp",
        projection="transformer.h.{}.mlp.c_proj",
        inputs=("transformer.h.{}.mlp.c_fc",),
        norm="transformer.ln_f",
        transposed=True,
    ),
    "gptj": Family(
        layer="transformer.h.{}",
        mlp="transformer.h.{}.mlp",
        projection="transformer.h.{}.mlp.fc_out",
        inputs=("transformer.h.{}.mlp.fc_in",),
        norm="transformer.ln_f",
        tuples=True,
    ),
    "gpt_neox": Family(
        layer="gpt_neox.layers.{}",
        mlp="gpt_neox.layers.{}.mlp",
        projection="gpt_neox.layers.{}.mlp.dense_4h_to_h",
        inputs=("gpt_neox.layers.{}.mlp.dense_h_to_4h",),
        norm="gpt_neox.final_layer_norm",
    ),
    "phi": Family(
        layer="model.layers.{}",
        mlp="model.layers.{}.mlp",
        projection="model.layers.{}.mlp.fc2",
        inputs=("model.layers.{}.mlp.fc1",),
        norm="model.final_layernorm",
    ),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), GATED),
    **dict.fromkeys(("gemma2", "olmo2"), POST_NORM),
}
"""By `model_type` of the model's configuration."""


def family_of(model_type: str) -> Family:
    """The family of a `model_type`; ValueError naming the known ones."""
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ValueError(
            f"unknown model type {model_type!r}; known: {known} (one entry in lm/families.py adds it)"
        )
    return FAMILIES[model_type]


@cache
def layer_number(module: str) -> int | None:
    """The number of the layer that a module, of any family, belongs to or is; None outside the layers."""
    for start in {family.layer for family in FAMILIES.values()}:
        before, after = map(re.escape, start.split("{}"))
        if found := re.match(rf"{before}(\d+){after}(?:\.|$)", module):
            return int(found[1])
    return None
