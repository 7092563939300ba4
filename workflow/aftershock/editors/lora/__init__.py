"""LoRA: fine-tuning of an adapter of low rank on the edit (Hu et al., 2022), as PEFT has it."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method, stopped_early
from aftershock.editors.settings import STRICT, Count, Layers, NotNegative, Positive
from aftershock.editors.sites import Sites, fault_of_sites


@dataclass(frozen=True, config=STRICT)
class LoraSettings:
    """An adapter A, B of one rank at each chosen matrix: W + (alpha / rank) B A."""

    layers: Layers = tuple(range(48))
    modules: Sites = Field(default_factory=lambda: {"attention": None, "in": None, "out": None})
    """The matrices of these layers that get an adapter, by site; null: in all of `layers`. By default all, as
    Dettmers et al. (2023) advise; EasyEdit adapts queries and values alone."""
    rank: Count = 8
    alpha: Positive = 32.0
    steps: Count = 70
    """Passes over the requests at most."""
    lr: Positive = 3e-4
    """On SmolLM2 it is as effective as 1e-3 in twice the steps and changes other facts half as much. EasyEdit
    has 5e-3, for two matrices of each layer.
    """
    weight_decay: NotNegative = 0.0
    early_stop: NotNegative = 1e-2
    """An update whose loss is below is skipped, and a pass whose mean loss is below is the last."""
    batch_size: Count = 64
    """Requests of one case per update."""
    init: Literal["uniform", "gaussian"] = "uniform"
    """The distribution that A is drawn from, by the run's seed; B begins at zero."""


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return all layers, as published."""
    return tuple(range(n_layers))


METHOD = Method(
    settings=LoraSettings,
    editor=".edit:Lora",
    title="LoRA",
    source="Hu et al. (2022); hyperparameters of EasyEdit, but for the matrices and the learning rate",
    changes="a small rank at all matrices of the layers",
    fault=lambda settings, family: fault_of_sites(settings.modules, settings.layers, family),
    layers=_layers,
    passes=stopped_early,
    alone=True,
    example={"rank": 4, "steps": 10, "lr": 0.02},
)
