"""GRACE: a codebook of outputs that replace a module's near the inputs of edits (Hartvigsen et al., 2023)."""

from typing import Literal

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Count, OneLayer, Positive


@dataclass(frozen=True, config=STRICT)
class GraceSettings:
    """General retrieval adaptors for continual editing."""

    layers: OneLayer = (35,)
    """The layer that is adapted; exactly one."""
    module: Literal["input", "output"] = "input"
    """The matrix of its MLP: the first one, of a gated MLP that of the gate, or the last one. Published
    are the former for GPT2-XL, and the latter for GPT-J and Llama."""
    variant: Literal["paper", "released"] = "paper"
    """The paper, or EasyEdit's code; `editors/grace/edit.py` lists the differences."""
    steps: Count = 200
    """Updates of a value."""
    lr: Positive = 1.0
    eps: Positive = 1.0
    """Radius of a new key."""
    init: Literal["cold", "warm"] = "cold"
    """A value's initialisation: random numbers from 0 to 1, or the module's output."""
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between inputs; the released code always takes the former."""
    expand: Literal["coverage", "moving_average"] = "coverage"
    """Update of a nearby key with the same object: its radius is widened up to the edit, or the key is also
    moved half the way.
    """
    replace: Literal["last", "prompt", "all"] = "last"
    """The tokens whose output is replaced: the prompt's last, all of the prompt, or later ones too. Released:
    `prompt` leaves out the last one.
    """
    max_entries: Count = 1000
    """Largest number of entries of one case's codebook. Each takes an input and two outputs of the module."""


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return the layer at five sixths of the depth: 1 of 3 published ones exactly."""
    return (min(n_layers - 1, round(5 * n_layers / 6)),)


METHOD = Method(
    settings=GraceSettings,
    editor=".edit:Grace",
    title="GRACE",
    source="Hartvigsen et al. (2023); EasyEdit",
    in_weights=False,
    changes="no weight; what one MLP matrix puts out after prompts near those of edits",
    paper="the same prompt with another object takes the entry's place",
    released="two keys at one point, of which the older is found and does nothing",
    layers=_layers,
    change="entries",
    example={"steps": 20, "lr": 0.3, "module": "output"},
    recorded={
        "n_iter": "steps",
        "edit_lr": "lr",
        "eps": "eps",
        "val_init": "init",
        "eps_expand": "expand",
        "replacement": "replace",
        "dist_fn": "distance",
    },
)
