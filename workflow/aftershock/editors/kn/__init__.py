"""KN: changes the output weights of the neurons that express a fact (Dai et al., 2022)."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Count, Layers, NotNegative

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class KnSettings:
    """Knowledge neurons: output weights of neurons with high attribution are changed to a new object."""

    layers: Layers = tuple(range(48))
    """Layers whose neurons are searched: all of the model's."""
    variant: Literal["paper", "released"] = "paper"
    """The paper, or EasyEdit's code; `editors/kn/edit.py` lists the differences."""
    steps: Count = 20
    """Factors of the activations, m in the integrated gradients. Released: the first one is 0, so that a
    single step is the gradient at activations of zero."""
    batch_size: Count = 20
    """Factors that are run at once, for each prompt. Released: it has to divide `steps`."""
    adaptive_threshold: Share = 0.2
    """Threshold of a neuron's score, as a share of the largest score of all layers."""
    refine: bool = True
    """True if a neuron has to be taken after more than `p_threshold` of the prompts; otherwise one prompt is
    enough. With one prompt, as there is without contexts, both are the same."""
    p_threshold: Share = 0.7
    lambda_old: NotNegative = 1.0
    """Factor on the embedding of the old object, which is taken away (paper)."""
    lambda_new: NotNegative = 8.0
    """Factor on the embedding of the new object, which is added (paper)."""
    leading_space: bool = True
    """Released: whether a space is put before objects; the code that wraps the method passes them as they
    stand."""
    continued: Literal["greedy", "prompt_end"] | None = None
    """Released: the later tokens of an object are read after the model's own greedy tokens, or all at the
    prompt's end; null as in the code: the former in models whose MLP has a gate, which its branch for Llama
    serves, and the latter in GPT-2 and GPT-J.
    """
    context_lengths: tuple[tuple[Count, Count], ...] = ()
    """(tokens, texts per opening) sampled from the model to read the prompt after, beside the plain prompt
    (paper). The paper's prompts are other wordings of the fact, which an edit request does not have."""
    context_openings: tuple[str, ...] = ()
    """Words such texts begin with; without any, the end-of-text token."""

    def __post_init__(self) -> None:
        if self.variant == "released" and self.steps % self.batch_size:
            raise ValueError(
                f"kn: batch_size {self.batch_size} does not divide steps {self.steps}, as the released code "
                "needs it to; choose another, or variant: paper"
            )


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return all layers."""
    return tuple(range(n_layers))


def searching(settings: KnSettings) -> float:
    """Return the passes of one over all tokens in each searched layer, and one a step over the last ones."""
    return len(settings.layers) * (0.5 + 0.12 * settings.steps)


METHOD = Method(
    settings=KnSettings,
    editor=".edit:Kn",
    title="KN",
    source="Dai et al. (2022); EasyEdit",
    changes="a few columns of MLP output matrices in any layer",
    paper="gradients integrated over activations, without the one at zero",
    released="activations before the nonlinearity, both ends of the integral, probabilities of tokens "
    "averaged",
    layers=_layers,
    change="entries",
    passes=searching,
    example={"steps": 5, "batch_size": 5, "refine": False},
    recorded={
        "steps": "steps",
        "batch_size": "batch_size",
        "adaptive_threshold": "adaptive_threshold",
        "refine": "refine",
        "p": "p_threshold",
    },
)
