"""WISE: edits go into copies of one MLP matrix, and prompts are routed to a copy or past them.

Wang et al. (2024). What a prompt does to the copy's outputs decides; nothing else is trained for routing.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method, stopped_early
from aftershock.editors.settings import STRICT, Count, NotNegative, OneLayer, Positive

Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class WiseSettings:
    """Side memories of one matrix; margins are in units of what the matrix puts out."""

    layers: OneLayer = (40,)
    """The layer whose MLP's last matrix is copied; exactly one."""
    variant: Literal["paper", "released"] = "paper"
    """The paper, or EasyEdit's code; `editors/wise/edit.py` says where they differ."""
    routing: Literal["per_row", "released"] = "per_row"
    """per_row: over each prompt's tokens, once for all that follows. released: in every pass anew, over all
    of its tokens, pads and all rows of a case together."""
    steps: Count = 70
    """Updates of a copy by one edit."""
    lr: Positive = 1.0
    weight_decay: NotNegative = 1e-5
    mask_ratio: Share = 0.2
    """Share of a copy's weights that its edits may change."""
    alpha: NotNegative = 15.0
    """Distance that other texts should stay below."""
    beta: NotNegative = 40.0
    """Distance that edits should reach."""
    gamma: NotNegative = 20.0
    """Distance that edits should be further away than other texts."""
    act_ratio: Positive = 0.88
    """Share of the least distance of a memory's edits from which on a prompt is routed to it."""
    norm_constraint: Positive | None = 1.0
    """The largest change of a single weight."""
    save_freq: Count = 500
    """Edits of one memory."""
    merge_freq: Count = 1000
    """Edits whose memories are merged into one; a multiple of save_freq."""
    density: Share = 0.53
    """Share of the weights of each memory that a merge keeps, the largest changes."""
    merge_weight: Positive = 1.0
    """Weight of all memories of a merge together; it cancels out where their signs agree."""
    retrieve: bool = True
    """False: all memories are merged into one, and the first one, until it is full, is tried by itself."""
    max_memories: Count = 10
    """Of a case, the one that is being written included; each is as large as the matrix."""
    context_lengths: tuple[tuple[Count, Count], ...] = ((5, 1), (10, 1))
    """(tokens, texts per opening) sampled from the model to read the prompt after."""
    context_openings: tuple[str, ...] = ("I", "You", "Because", "Yes", "Q: ")
    apart: Literal["other_text", "subject"] = "other_text"
    """The edit is kept apart from a text of the model's own, or its subject's tokens from the other ones of
    the same texts, as the released code does where its other text is a part of the prompt."""
    other_tokens: Count = 10
    """Of the text that is kept apart from an edit, one that the model writes by itself."""

    def __post_init__(self) -> None:
        if self.merge_freq % self.save_freq:
            raise ValueError(
                f"wise: merge_freq {self.merge_freq} is no multiple of save_freq {self.save_freq}; a merge "
                "would lose the edits of a memory that is not full"
            )


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return the layer at five sixths of the depth: 3 of 5 published ones exactly."""
    return (min(n_layers - 1, round(5 * n_layers / 6)),)


METHOD = Method(
    settings=WiseSettings,
    editor=".edit:Wise",
    title="WISE",
    source="Wang et al. (2024); EasyEdit",
    in_weights=False,
    changes="no weight; copies of one MLP output matrix that prompts are routed to",
    paper="distances of outputs over each prompt's tokens, decided once per prompt; the farthest memory "
    "answers",
    released="of activated outputs, pads and target included; biases left out, decay outside the mask; "
    "`routing: released` decides in every pass",
    layers=_layers,
    change="matrices",
    passes=stopped_early,
    alone=True,
    example={
        "steps": 25,
        "lr": 0.3,
        "alpha": 0.2,
        "beta": 2.0,
        "gamma": 1.0,
        "context_lengths": [[10, 1]],
    },
    recorded={
        "edit_lr": "lr",
        "n_iter": "steps",
        "mask_ratio": "mask_ratio",
        "alpha": "alpha",
        "beta": "beta",
        "gamma": "gamma",
        "act_ratio": "act_ratio",
        "merge_freq": "merge_freq",
        "save_freq": "save_freq",
        "retrieve": "retrieve",
        "norm_constraint": "norm_constraint",
        "weights": "merge_weight",
        "densities": "density",
    },
)
