"""MEMOIR: a second matrix beside one of an MLP, of which every edit reads and writes some inputs alone.

Wang et al. (2025). The inputs are chosen by the prompt; a later prompt that would choose nearly the same is
taken to be about the edit.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method, stopped_early
from aftershock.editors.settings import STRICT, Count, NotNegative, OneLayer, Positive
from aftershock.lm.families import family_of


@dataclass(frozen=True, config=STRICT)
class MemoirSettings:
    """A residual memory that is sparse in its inputs."""

    layers: OneLayer = (40,)
    """The layer whose MLP's last matrix has the memory beside it; exactly one."""
    variant: Literal["paper", "released"] = "paper"
    """The paper, or the code of its use as a baseline; `editors/memoir/edit.py` says where they differ."""
    steps: Count = 30
    """Updates of the memory by one edit."""
    lr: Positive = 1.0
    weight_decay: NotNegative = 1e-5
    max_norm: Positive = 1.0
    """Norm that a longer gradient is cut to."""
    top_k: Count | None = None
    """Inputs that an edit reads; null: two sevenths of all, the published 4096 of 14336."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of `top_k` that a prompt and an edit have in common at least, if the memory is to answer."""
    feature: Literal["mean_decentered", "mean", "last"] = "mean_decentered"
    """Of a prompt: the mean of the matrix's inputs over its tokens, less that of other texts, or without; or
    the input at its last token."""
    background_texts: Count = 100
    """Texts of the model's own whose mean feature is subtracted."""
    background_tokens: Count = 24
    max_edits: Count = 1000
    """Edited prompts of one case; each keeps its mask."""
    context_lengths: tuple[tuple[Count, Count], ...] = ((5, 1), (10, 1))
    """(tokens, texts per opening) sampled from the model to read the prompt after."""
    context_openings: tuple[str, ...] = ("I", "You", "Because", "Yes", "Q: ")


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return the layer at five sixths of the depth, as for WISE, whose layers the authors take."""
    return (min(n_layers - 1, round(5 * n_layers / 6)),)


def _fault(settings: MemoirSettings, family: str) -> str | None:
    """Return why the released code cannot hold a memory in models of a family; None where it can."""
    if settings.variant == "paper" or not family_of(family).transposed:
        return None
    return (
        f"memoir: variant released cannot hold a memory beside a matrix of {family}, whose weights are "
        "stored (d_in, d_out); take variant: paper"
    )


METHOD = Method(
    settings=MemoirSettings,
    editor=".edit:Memoir",
    title="MEMOIR",
    source="Wang et al. (2025)",
    in_weights=False,
    changes="no weight; a matrix beside one MLP output matrix, masked by the prompt",
    paper="the mean over the target's tokens; decay within the mask",
    released="a mean diluted by a placeholder's tokens; decay of all that was written",
    fault=_fault,
    layers=_layers,
    change="matrices",
    passes=stopped_early,
    alone=True,
    example={"steps": 25, "lr": 1.0, "context_lengths": [[10, 1]]},
    recorded={
        "edit_lr": "lr",
        "n_iter": "steps",
        "top_k": "top_k",
        "irr_threshold": "threshold",
        "prompt_feature_agg": "feature",
    },
)
