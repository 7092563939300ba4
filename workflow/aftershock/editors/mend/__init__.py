"""MEND: gradients transformed by a trained hypernetwork (Mitchell et al., 2022)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Count, Layers, NotNegative, Positive, merge


@dataclass(frozen=True, config=STRICT)
class MendSettings:
    """MEND's settings."""

    layers: Layers = (45, 46, 47)
    """Layers whose MLP is edited, first and last matrices; the hypernetwork is trained for these."""
    variant: Literal["eval", "released"] = "eval"
    """The normaliser as training left it, or (released) starting anew and learning from every edit: then
    results depend on the order of the cases, which are edited one by one in one job."""
    lr_scale: Positive = 1.0
    """Factor on the learned rates."""

    @property
    def in_order(self) -> bool:
        """True where the normaliser learns from every edit."""
        return self.variant == "released"


@dataclass(frozen=True, config=STRICT)
class MendTraining:
    """Training settings of a hypernetwork; the defaults are the released ones (one edit to a batch).

    The loss of an edit is cedit * NLL of another wording of it + cloc * KL(unedited || edited) elsewhere.
    """

    rank: Count = 1920
    """Rank of the hypernetwork's layers, where they are wider."""
    n_hidden: Annotated[int, Field(ge=0)] = 1
    edit_lr: float = 1e-4
    """Every matrix's rate to begin with; a negative one makes the untrained edit a step of descent."""
    lr: Positive = 1e-6
    edit_lr_lr: NotNegative | None = None
    """Learning rate of the matrices' rates; null for `lr`. (The released lr_lr never acts.)"""
    cedit: NotNegative = 0.1
    cloc: NotNegative = 1.0
    batch_edits: Count = 1
    """Edits of one batch, each with its own delta."""
    locality_texts: Count = 1
    """Other texts that each edit should leave alone."""
    same_relation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of these that have the relation of the edit, where the texts come from the graph."""
    wordings: Literal["paraphrase", "any"] = "paraphrase"
    """Prompts of the edited model: a paraphrase, or any prompt, that of the edit among them."""
    accumulate: Count = 10
    """Batches of one update."""
    first_update: Literal["exact", "released"] = "released"
    """Released: the first update comes one batch late, and is the sum of its gradients over `accumulate`."""
    grad_clip: Positive = 100.0
    decay: bool = False
    """True if the learning rates fall linearly to zero at `steps`."""
    steps: Count = 100_000
    """Batches at most."""
    val_interval: Count = 1000
    """Batches between two evaluations on the dev split."""
    val_edits: Count = 500
    patience: Count = 20_000
    """Batches without a lower dev loss after which training ends."""


def mend_training(*layers: Mapping[str, Any]) -> MendTraining:
    """Return a hypernetwork's training settings: the defaults, overridden by each of `layers` in turn."""
    return merge(MendTraining, "mend", *layers)


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return the last three layers: all 4 published ones exactly."""
    return tuple(range(max(0, n_layers - 3), n_layers))


METHOD = Method(
    settings=MendSettings,
    editor=".edit:Mend",
    title="MEND",
    source="Mitchell et al. (2022)",
    changes="rank of the number of tokens at the first and last matrices of some MLPs",
    paper="the normaliser as training left it",
    released="a normaliser that starts anew and learns from each edit, so that the order of edits counts: "
    "`variant: released`",
    artifacts=("hypernetwork",),
    layers=_layers,
)
