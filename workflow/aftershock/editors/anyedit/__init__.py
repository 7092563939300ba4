"""AnyEdit: a long answer is written window by window (Jiang et al., 2025)."""

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Auto, Count, Layers, NotNegative, Positive

PUBLISHED_LAYER = 8 / 32  # of Llama-3-8B


def quarter_layer(n_layers: int) -> tuple[int, ...]:
    """Return the layer at a quarter of the depth, as the published one of Llama-3-8B."""
    return (min(n_layers - 1, round(n_layers * PUBLISHED_LAYER)),)


@dataclass(frozen=True, config=STRICT)
class AnyEditSettings:
    """A value in front of every window of the answer, and least squares beside the text's other tokens."""

    layers: Layers = (8,)
    """The layers that are written; values are of the last one's output."""
    window: Count = 40
    """Target tokens of a window; the last one may be shorter."""
    steps: Count = 25
    """Evaluations of a window's loss; updates are one fewer."""
    lr: Positive = 0.5
    weight_decay: NotNegative = 1e-3
    clamp: Positive = 4.0
    """Largest norm of a value's change, in norms of the value."""
    enough: NotNegative = 1e-2
    """The loss below which a value is done."""
    other_tokens: bool = True
    """True if the keys of the text's other tokens are preserved (K_o). They are not written, so that a value
    does not leak into the tokens between windows."""
    mom2_weight: Positive | Auto = "auto"
    """Weight of the second moments against the keys of the edit (lambda). auto: as MEMIT's."""


METHOD = Method(
    settings=AnyEditSettings,
    editor=".edit:AnyEdit",
    title="AnyEdit",
    source="Jiang et al. (2025)",
    changes="rank of the number of windows at MLP output matrices, as a rule of one layer",
    released="a second variant, which writes windows by AlphaEdit and forgets the keys of earlier edits",
    artifacts=("moments",),
    layers=quarter_layer,
    layer_loop=True,
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "mom2_weight": 1e-3, "window": 2},
    recorded={"mom2_update_weight": "mom2_weight", "v_weight_decay": "weight_decay"}
    | {"clamp_norm_factor": "clamp", "v_num_grad_steps": "steps", "v_lr": "lr", "window_size": "window"},
)
