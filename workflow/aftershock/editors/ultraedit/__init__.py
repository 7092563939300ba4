"""UltraEdit: one gradient per request, normalised over all edits so far and solved for in closed form.

Gu et al. (2025). There is no hypernetwork, no second moments and no value that is optimised: the memory is
two vectors and a count for each shape of an edited matrix.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Count, Layers, Positive
from aftershock.editors.sites import Sites, fault_of_sites


@dataclass(frozen=True, config=STRICT)
class UltraEditSettings:
    """UltraEdit's settings: one edit is one turn, all requests of a case solved for together."""

    layers: Layers = (38, 39, 40, 41, 42, 43, 44, 45, 46)
    modules: Sites = Field(default_factory=lambda: {"out": None})
    """The matrices of these layers that are edited, by site, such as {gate: [11, 12], up: [18]}; null: in all
    of `layers`."""
    lr: Positive = 1e-6
    batch_size: Count = 10
    """Requests of one mini-batch, whose mean loss over all target tokens is differentiated."""
    variant: Literal["paper", "released"] = "paper"
    """released: with the faults of the released code, see the editor."""
    rows: Literal["target", "all"] = "target"
    """all: EasyEdit's port, with the rows of all tokens, a loss of targets with what the tokenizer puts in
    front and padding (`editors/ultraedit/port.py`), and normalisers that start anew with every edit."""
    normaliser: Literal["diagonal", "whitened", "preheat"] = "diagonal"
    """whitened: StableEdit, which whitens gradients in full once it has seen more rows than they have
    entries; preheat: its edits of other data before, whose statistics count and whose gradients are
    normalised entry by entry."""
    warm_up: Annotated[int, Field(ge=0)] = 0
    """First edits of other subjects that the normalisers see before a case's first edit; nothing of them is
    written, and with `rows: all` there is no warm-up. The paper edits a hundred requests in a turn: those of
    one have too few rows to be normalised by. On the embedded model, 30 of them raised the best success x
    paraphrase x locality from .42 to .88."""
    ridge: Positive = 1.0
    """Weight of the identity in the solve; StableEdit's alpha."""

    @property
    def warms_up(self) -> bool:
        """True if the normalisers see other edits first."""
        return self.warm_up > 0 and self.rows != "all"


def _layers(n_layers: int) -> tuple[int, ...]:
    """Return the nine layers below the last, as far as the last third goes: 4 of 6 published exactly."""
    first = max(n_layers - 10, 2 * n_layers // 3)
    return tuple(range(max(0, min(first, n_layers - 2)), max(1, n_layers - 1)))


METHOD = Method(
    settings=UltraEditSettings,
    editor=".edit:UltraEdit",
    title="UltraEdit",
    source="Gu et al. (2025); with `normaliser: whitened` StableEdit (2026)",
    changes="rank of the number of target tokens at some matrices of MLPs",
    paper="all mini-batches keep their gradients",
    released="those of a last, smaller one are zeros; a block of one row makes the normaliser NaN for good: "
    "`variant: released`. EasyEdit's port takes the rows of all tokens, has padding learned, "
    "and forgets its statistics: `rows: all`",
    artifacts=lambda settings: ("other_edits",) if settings.warms_up else (),
    fault=lambda settings, family: fault_of_sites(settings.modules, settings.layers, family),
    layers=_layers,
    example={"lr": 1e-2},
    recorded={"lr": "lr", "batch_size": "batch_size", "alpha": "ridge"},
)
