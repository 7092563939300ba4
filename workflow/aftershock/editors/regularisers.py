"""Regularisers that compose with any method whose edits change weights. Nothing here loads a tensor library.

A configured editor lists them, in the order in which they act:

    memit_rect: {method: memit, regularisers: [{rect: {keep: 40}}, {norm_clamp: {limit: 0.05}}]}

Most act on the change that an edit makes, and what they leave is what the next edit starts from. With `order:
post` all layers are edited first, each with the unregularised changes of those before it in place; with
`in_loop` each layer's change is regularised before the next layer is looked at. PRUNE acts on everything that
has changed since the unedited model, in a copy: the copy is scored, and later edits do not see it.

A regulariser is one entry here and one function `(delta, weight, settings) -> delta` in `regularise`;
`regularised` has the editor that applies them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as validated

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, NotNegative, Positive, as_values, merge
from aftershock.schema import suggestion

Entry = Mapping[str, Mapping[str, Any] | None]
"""A regulariser as a configuration names it: its name, with the settings that differ from its defaults."""
Order = Literal["post", "in_loop"]
Share = Annotated[float, Field(gt=0, le=1)]

EDITOR = "aftershock.editors.regularised:Regularised"


@validated(frozen=True, config=STRICT)
class RectSettings:
    """RECT: only the entries with the largest change relative to the weight are changed."""

    keep: Annotated[float, Field(gt=0, le=100)] = 40.0
    """Percentage of a matrix's entries that are changed."""
    epsilon: NotNegative = 1e-8
    """Added to a weight before its change is divided by it."""
    order: Order = "post"


@validated(frozen=True, config=STRICT)
class NormClampSettings:
    """Norm clamp: a change is scaled down until the whole change of its weight is small enough."""

    limit: Positive
    """Largest Frobenius norm of all changes of a weight together, in norms of the unedited weight."""
    order: Order = "post"


@validated(frozen=True, config=STRICT)
class SphereSettings:
    """SPHERE: the change is reduced along the principal directions of the weight's rows."""

    share: Share = 0.5
    """Directions are taken up to this cumulative share of the eigenvalues (eta)."""
    strength: Share = 0.5
    """The share of the change along them that is taken away (alpha)."""
    variant: Literal["paper", "released"] = "paper"
    """Directions of the weight's inputs; the released code takes those of the outputs where a model stores
    its weights transposed (GPT-2)."""
    order: Order = "post"


@validated(frozen=True, config=STRICT)
class PruneSettings:
    """PRUNE: singular values of the whole change are bounded by the largest one of the unedited weight."""

    function: Literal["log", "log1_2", "log1_5", "log2", "linear"] = "log"
    """The function of a larger one: a logarithm to the base e, 1.2, 1.5 or 2, or the mean of both."""
    base: Literal["original", "edited"] = "original"
    """The weight that the bounded change is added to. With `edited`, as in the release of AlphaEdit and those
    that copied it, the change stays as well: one without large singular values is doubled."""


@dataclass(frozen=True)
class Regulariser:
    """A regulariser's settings, function and properties.

    apply: the function, as "module:function". source: the paper that it is from. whole: it acts on all that
    changed since the unedited model, in a copy that is scored. dense: it makes whole matrices of changes of
    low rank.
    """

    settings: type
    apply: str
    source: str
    whole: bool = False
    dense: bool = False


HERE = "aftershock.editors.regularise"
REGULARISERS: dict[str, Regulariser] = {
    "rect": Regulariser(RectSettings, f"{HERE}:rect", "Gu et al. (2024)", dense=True),
    "norm_clamp": Regulariser(NormClampSettings, f"{HERE}:norm_clamp", "this project"),
    "sphere": Regulariser(SphereSettings, f"{HERE}:sphere", "Liu et al. (2025)"),
    "prune": Regulariser(PruneSettings, f"{HERE}:prune", "Ma et al. (2024)", whole=True),
}


def settings_of_entry(entry: Entry, where: str = "regularisers") -> tuple[str, Any]:
    """Return the name and the settings of an entry; ValueError names what is unknown in it."""
    if len(entry) != 1:
        raise ValueError(f"{where}: {sorted(entry)} should be one regulariser with its settings")
    ((name, values),) = entry.items()
    if name not in REGULARISERS:
        raise ValueError(f"{where}: unknown regulariser {name!r}; {suggestion(name, REGULARISERS)}")
    return name, merge(REGULARISERS[name].settings, f"{where}.{name}", values or {})


def merged_entries(entries: Sequence[Entry]) -> list[dict[str, dict[str, Any]]]:
    """Return `entries` with all settings of each, so that a default written out makes no difference."""
    found = (settings_of_entry(entry) for entry in entries)
    return [{name: as_values(settings)} for name, settings in found]


def entry_errors(entries: Sequence[Entry], where: str, label: str, method: Method) -> Iterator[str]:
    """Yield errors in the regularisers of a configured editor whose method is `label`."""
    if entries and not method.in_weights:
        yield (
            f"{where}: an edit by {label} is no change of weights, and regularisers act on weights; leave "
            "them out, or take another method"
        )
        return
    for number, entry in enumerate(entries):
        try:
            name, settings = settings_of_entry(entry, f"{where}.{number}")
        except ValueError as error:
            yield str(error)
            continue
        if getattr(settings, "order", "post") == "in_loop" and not method.layer_loop:
            yield (
                f"{where}.{number}.{name}.order: {label} computes the changes of all layers together, so "
                "there is no loop over layers to regularise in; take order: post"
            )


def code_of_entries(entries: Sequence[Entry]) -> list[str]:
    """Return the code that applies `entries`, as roots of `code_hash`."""
    names = sorted({name for entry in entries for name in entry})
    return [EDITOR, *(REGULARISERS[name].apply for name in names)] if names else []


def makes_dense(entries: Sequence[Entry]) -> bool:
    """Return True if a regularised change of low rank is a whole matrix."""
    return any(REGULARISERS[name].dense for entry in entries for name in entry)


def copies_state(entries: Sequence[Entry]) -> bool:
    """Return True if what is scored is a copy of what later edits start from."""
    return any(REGULARISERS[name].whole for entry in entries for name in entry)
