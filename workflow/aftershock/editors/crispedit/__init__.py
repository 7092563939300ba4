"""CrispEdit: fine-tuning away from the directions in which text's loss is curved (arXiv 2602.15823)."""

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method, stopped_early
from aftershock.editors.settings import STRICT, Count, Layers, NotNegative, Positive


@dataclass(frozen=True, config=STRICT)
class CrispEditSettings:
    """Fine-tuning of MLP output matrices on all requests of a case, with projected gradients."""

    layers: Layers = (29, 30, 31, 32, 33)
    project: Literal["gradient", "step"] = "gradient"
    """gradient: as released; Adam's division by each entry's size takes the step out of the subspace again.
    step: the step is projected as well."""
    energy: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Share of the curvature that gradients are kept away from (gamma): the largest values first."""
    append_eos: bool = False
    """True if the end-of-text token is a part of every target."""
    steps: Count = 25
    """Passes over the requests at most."""
    lr: Positive = 5e-4
    weight_decay: NotNegative = 0.0
    batch_size: Count = 32
    """Requests of one case per update."""
    remember_edits: bool = True
    """True if later edits also leave alone what the targets of earlier ones are sensitive to, and go on with
    Adam's moments."""
    documents: Count = 100
    """Texts that the curvature is measured on. The model writes them itself, so that it needs no others; the
    released code takes Wikipedia's."""
    document_tokens: Annotated[int, Field(ge=2)] = 512
    """Their length; never more than the model's context."""


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return five layers from 0.6 of the depth on: Llama 3's published ones."""
    first = min(int(0.6 * n_layers), max(0, n_layers - 5))
    return tuple(range(first, min(n_layers, first + 5)))


def decompositions(settings: CrispEditSettings, sizes: Any) -> float:
    """Return the operations of decomposing both factors of each layer's curvature."""
    return 10 * len(settings.layers) * float(sizes.inner**3 + sizes.width**3)


METHOD = Method(
    settings=CrispEditSettings,
    editor=".edit:CrispEdit",
    title="CrispEdit",
    source="arXiv:2602.15823",
    changes="whole MLP output matrices, outside the directions in which text's loss is curved",
    paper="the step of Adam lies in the subspace (`project: step`)",
    released="the gradient does, and Adam's division takes the step out of it again (`project: gradient`, "
    "the default); a new padding token takes part in the softmax",
    layers=_layers,
    change="matrices",
    passes=stopped_early,
    exact_flops=decompositions,
    example={"steps": 8, "lr": 0.02, "energy": 0.8, "documents": 8, "document_tokens": 12},
    recorded={
        "layers": "layers",
        "energy_threshold": "energy",
        "num_steps": "steps",
        "lr": "lr",
        "weight_decay": "weight_decay",
        "batch_size": "batch_size",
    },
)
