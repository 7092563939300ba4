"""The contract between an editing method and everything that runs one. Nothing here loads a tensor library.

A method is a `Method` record called METHOD, in the `__init__` of a package of its own or in one file. It
names a settings dataclass and an `Editor`, which is imported when an edit runs. `aftershock.editors.methods`
finds methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from aftershock.lm.edits import Delta, State
    from aftershock.lm.model import LanguageModel
    from aftershock.requests import EditRequest

Contexts = Sequence[Sequence[str]]
"""Kinds of templates for a prompt; the first kind is the plain ["{}"]."""

LayerRule = Callable[[int], tuple[int, ...]]
"""The layers to edit, by a model's number of layers."""


@dataclass(frozen=True)
class Method:
    """An editing method: its settings, its editor, and its properties for everything that runs one.

    settings: a frozen dataclass of hyperparameters with defaults, and a field `layers` unless no layer is
        edited; see `editors.settings`.
    editor: the class derived from `Editor`, as "module:Class", or ".module:Class" relative to METHOD's
        package.
    title: the name as papers write it. source: the paper or repository that the method is from.
    changes: the weights that an edit changes, or what it adds instead, in a line. paper, released: what
        the paper has, and what released code does in its place, where the two differ.
    artifacts: names of `editors.artifacts.ARTIFACTS` that have to be made first, or a function of the
        settings that returns them.
    families: the families of models (`lm/families/`) that can be edited, or a function that says so of a
        family's name; None for all. A run that asks for another is refused before any job starts.
    fault: a function of the settings and a family's name that returns why a model of that family cannot be
        edited so; None where it can. It is asked at the same time.
    layers: the layers to edit where nobody published any, by the model's depth.
    layers_like: another method, whose layers in a model's file are taken where the file has none for this
    one. in_weights: an edit is a change of weights, which regularisers can act on. layer_loop: layers are
    changed in turn, and `Editor.after_layer` is called for each.
    passes: how often an edit runs the texts of its requests forth and back above the lowest edited layer, by
    the settings; None for their `steps`, or once. exact_flops: operations in float64 of an edit beside that,
    by the settings and a model's `config.sizes.Sizes`. change: what an edit's change consists of, which costs
    depend on (`budget.edits`). alone: cases are edited one after the other, and not in one batch.
    example: settings that edit a random model of three layers, for the contract's tests. recorded: for each
    hyperparameter of the released code, the setting that it is; see tests/golden.py.
    """

    settings: type
    editor: str
    title: str
    source: str = ""
    changes: str = ""
    paper: str = ""
    released: str = ""
    artifacts: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = ()
    families: tuple[str, ...] | Callable[[str], bool] | None = None
    fault: Callable[[Any, str], str | None] | None = None
    layers: LayerRule | None = None
    layers_like: str | None = None
    in_weights: bool = True
    layer_loop: bool = False
    passes: Callable[[Any], float] | None = None
    exact_flops: Callable[[Any, Any], float] | None = None
    change: Literal["factors", "matrices", "entries", "texts"] = "factors"
    alone: bool = False
    example: Mapping[str, Any] = field(default_factory=dict)
    recorded: Mapping[str, str] = field(default_factory=dict)

    def needs(self, settings: Any) -> tuple[str, ...]:
        """Return the names of the artifacts that an edit with `settings` needs."""
        return self.artifacts(settings) if callable(self.artifacts) else self.artifacts

    def edits(self, family: str) -> bool:
        """Return True if models of a family can be edited."""
        if self.families is None:
            return True
        return self.families(family) if callable(self.families) else family in self.families


def stopped_early(settings: Any) -> float:
    """Return the passes of fine-tuning, whose loss is low enough after about half of its steps.

    After 0.46 to 0.69 of them in the embedded study.
    """
    return 0.55 * settings.steps


def is_in_order(settings: Any) -> bool:
    """Return True if an edit with `settings` depends on earlier ones; cases then run one at a time, in order.

    Settings say so in a property `in_order`.
    """
    return bool(getattr(settings, "in_order", False))


def layers_of(settings: Any) -> tuple[int, ...]:
    """Return the layers that an edit with `settings` changes; none for methods that edit no layer."""
    return tuple(getattr(settings, "layers", ()))


Memory = Mapping[str, "Tensor"]
"""A method's memory from edit to edit, such as keys of earlier edits; every tensor has a case axis first."""


@dataclass(frozen=True)
class EditResult:
    """The outcome of an edit of B cases: one delta with a case axis, and one entry per case of all else.

    A case that failed has a reason, and zeros in the delta. `memory` goes into the next edit of the same
    cases. `diagnostics` are the intermediate quantities by the papers' letters, one mapping per optimisation
    or layer, for checking or studying a method.
    """

    delta: State
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    reasons: tuple[str | None, ...]
    memory: Memory | None = None
    diagnostics: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


class Editor(ABC):
    """A method with its settings on one model.

    `edit` never changes the model, and keeps nothing between calls: what a later edit needs is in the
    result's memory. A case's delta does not depend on the cases beside it.
    """

    def __init__(
        self,
        lm: LanguageModel,
        settings: Any,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        """Take a model, an instance of the method's settings, and its loaded artifacts by name.

        `contexts` replaces texts that the model would write itself, in editors that read prompts after some.
        ValueError when the model lacks one of the layers, and when it computes in half precision, which ruins
        what an edit is solved from.
        """
        if lm.dtype.itemsize < 4:
            narrow = str(lm.dtype).removeprefix("torch.")
            raise ValueError(
                f"the model is in {narrow}, too narrow to compute edits in; load it with dtype=torch.float32"
            )
        layers = layers_of(settings)
        beyond = [layer for layer in layers if not 0 <= layer < lm.n_layers]
        if beyond or (not layers and hasattr(settings, "layers")):
            raise ValueError(f"layers {list(layers)}: the model has layers 0 to {lm.n_layers - 1}")
        lens = getattr(settings, "loss_layer", None)
        if lens is not None and lens >= lm.n_layers:
            raise ValueError(f"loss_layer {lens}: the model has layers 0 to {lm.n_layers - 1}")
        self.lm, self.settings, self.seed, self.contexts = lm, settings, seed, contexts
        self.artifacts = dict(artifacts or {})

    def after_layer(self, delta: Delta, state: State) -> Delta:
        """Return a layer's finished change, as seen by later layers and as stored.

        Editors that change layers in turn call it for each; `state` is the one that the change was computed
        in. Regularisers in the loop over layers put themselves in its place.
        """
        return delta

    def scored(self, state: State) -> State:
        """Return the state to score where later edits start from `state`: the same, but for regularisers."""
        return state

    @property
    def changed_modules(self) -> tuple[str, ...]:
        """The modules whose weights an edit may change, other than through whole matrices of its own."""
        return tuple(map(self.lm.projection, layers_of(self.settings) or range(self.lm.n_layers)))

    @property
    def case_bytes(self) -> int:
        """Bytes of one case's delta; those of low rank are not worth counting."""
        return 0

    @property
    def in_order(self) -> bool:
        """True if an edit depends on earlier ones; cases then run one at a time, in order."""
        return is_in_order(self.settings)

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """The values that `auto` settings take on this model, by setting and layer."""
        return {}

    @abstractmethod
    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = (), memory: Memory | None = None
    ) -> EditResult:
        """Edit case i with the requests `cases[i]`, starting from case i of `state` and of `memory`."""
