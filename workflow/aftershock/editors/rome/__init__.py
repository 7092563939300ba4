"""ROME: rank-one model editing (Meng et al., 2022)."""

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Count, Layers, NotNegative, Positive, ValueOptions


@dataclass(frozen=True, config=STRICT)
class RomeSettings(ValueOptions):
    """Rank-one model editing."""

    layers: Layers = (17,)
    steps: Count = 20
    """Evaluations of the loss; updates are one fewer."""
    lr: Positive = 0.5
    weight_decay: NotNegative = 0.5
    clamp: Positive = 4.0
    """Largest norm of the value's change, in norms of the value."""
    kl_factor: NotNegative = 0.0625
    mom2_adjustment: bool = True
    """True if the key is whitened with the second moments."""
    context_lengths: tuple[tuple[Count, Count], ...] = ((5, 10), (10, 10))
    """(tokens, texts) sampled from the model to read the prompt after, beside the plain prompt."""
    context_openings: tuple[str, ...] = ()
    """Words such texts begin with; without any, the end-of-text token."""


def needs_moments(settings: RomeSettings) -> tuple[str, ...]:
    """Return the artifacts that an edit needs: second moments, where keys are whitened with them."""
    return ("moments",) if settings.mom2_adjustment else ()


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return the layer at a sixth of the depth: 7 of 10 published ones exactly; GPT-2's are at a third."""
    return (round(n_layers / 6),)


METHOD = Method(
    settings=RomeSettings,
    editor=".edit:Rome",
    title="ROME",
    source="Meng et al. (2022)",
    changes="rank one at one MLP output matrix",
    paper="one key of averaged contexts for the direction, the plain prompt's for the division",
    released="the same; r-ROME takes one key for both",
    artifacts=needs_moments,
    layers=_layers,
    layer_loop=True,
    example={"steps": 12, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0},
)
