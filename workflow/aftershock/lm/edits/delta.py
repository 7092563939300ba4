"""The contract of a change of a model, and its view of the rows that run."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor

from aftershock.lm.families import layer_number
from aftershock.lm.model import LanguageModel


@dataclass(frozen=True)
class Batch:
    """Rows that run together: each is a prompt, possibly followed by targets.

    A pass computes a column for each token that runs. In the first pass inside an `attach` column j is token
    j of `ids`, or token `positions[:, j]` where these are given; later passes go on behind, from a cache,
    with tokens that are not in `ids`. A prompt's last token always runs in the first one.
    """

    ids: Tensor  # (rows, seq) the rows' texts from their beginnings, padded on the right
    cases: Tensor  # (rows,) the case of each row
    prompt_ends: Tensor  # (rows,) index in `ids` of each prompt's last token
    positions: Tensor | None = None  # (rows, columns) indices in `ids`, where a pass starts inside the texts

    @classmethod
    def of_prompts(cls, ids: Tensor, mask: Tensor, cases: Tensor) -> "Batch":
        """Rows without targets: what `LanguageModel.pad` made of prompts."""
        return cls(ids, cases, mask.sum(dim=1) - 1)

    @property
    def in_prompt(self) -> Tensor:
        """True for the tokens of `ids` that are a prompt's, (rows, seq)."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) <= self.prompt_ends[:, None]

    @property
    def prompt_columns(self) -> Tensor:
        """The column of each prompt's last token in the first pass, (rows,)."""
        if self.positions is None:
            return self.prompt_ends
        return (self.positions == self.prompt_ends[:, None]).int().argmax(dim=1)


class PromptDecision:
    """A decision per row, made once from a module's input at the prompt's end and kept for all that follows.

    Called by a hook with the module's input (rows, columns, width), in every pass inside one `attach`. The
    first pass decides; targets behind a prompt, tokens that are generated later, and a layer that is run
    again for a backward pass all get the same decision.
    """

    def __init__(self, batch: Batch, decide: Callable[[Tensor], Tensor]) -> None:
        self._batch, self._decide = batch, decide
        self._made: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return `decide` of the inputs at the prompts' ends, (rows, width), computed in the first pass."""
        if self._made is None:
            columns = self._batch.prompt_columns.to(x.device)
            with torch.no_grad():
                self._made = self._decide(x[torch.arange(len(x), device=x.device), columns])
        return self._made


BEHIND_LAYERS = sys.maxsize
"""Stands for the layer of changes that affect next-token scores alone."""


class Delta(Protocol):
    """A change of a model for B cases, whose tensors have the case axis first."""

    in_weights: ClassVar[bool]
    """True for a change of one module's weight and bias: it adds up with others of the same `module`, and can
    be folded and exported. Such kinds derive from `weights.WeightDelta`."""
    per_token: ClassVar[bool]
    """True if the change at a token depends on the module's input at this token alone. Otherwise all tokens
    of a row run in all modules, even where only some of them are read.
    """

    @property
    def first_layer(self) -> int:
        """The lowest layer with a changed output; 0 where any may be, BEHIND_LAYERS where none is."""

    @property
    def name(self) -> str:
        """Name for error messages: the kind and the module."""

    def attach(self, lm: LanguageModel, batch: Batch) -> AbstractContextManager[None]:
        """Context manager: passes inside run row i of `batch` with the change of case `batch.cases[i]`.

        A row's result must not depend on the other rows, on padding, or on the targets behind its prompt.
        """

    def rewrite(self, lm: LanguageModel, prompts: Sequence[str], cases: Sequence[int]) -> Sequence[str]:
        """The prompts with this delta's text before them, prompt i in case `cases[i]`.

        What is put before a prompt must depend on this prompt and its case alone.
        """

    def follow(self, earlier: "Delta") -> "Delta | None":
        """One delta for `earlier` and this one, for kinds that combine; None for those that do not."""

    def select(self, indices: Sequence[int] | Tensor) -> Self:
        """The change of some of the cases, in the order of `indices`."""

    def without(self, cases: Tensor) -> Self:
        """The change with nothing changed in the cases that are true in `cases` (B,)."""

    def to(self, device: torch.device) -> Self:
        """The change on another device."""

    def squared_norm(self) -> Tensor:
        """Squared Frobenius norm of each case's change, (B,), float64."""

    def random_like(self, generators: Sequence[torch.Generator]) -> Self:
        """A random change of the same shape and, per case, of the same norm; one generator for each case."""

    def tensors(self) -> dict[str, Tensor]:
        """All its tensors by name; with `settings`, enough for `from_tensors`."""

    def settings(self) -> dict[str, Any]:
        """Its other fields, as JSON values."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """The change that had these tensors and settings."""

    def __len__(self) -> int:
        """The number of cases."""


class CaseTensors:
    """A base for frozen dataclasses whose fields are tensors with a leading case axis, or plain settings."""

    in_weights: ClassVar[bool] = False
    per_token: ClassVar[bool] = False
    module: str

    def __len__(self) -> int:
        return len(next(iter(self.tensors().values())))

    @property
    def first_layer(self) -> int:
        """The layer of `module`; 0 for a module outside the layers."""
        return layer_number(self.module) or 0

    @property
    def name(self) -> str:
        """The kind and the module."""
        return f"{type(self).__name__} of {self.module}"

    def attach(self, lm: LanguageModel, batch: Batch) -> AbstractContextManager[None]:
        """Do nothing: for kinds that only rewrite prompts."""
        return nullcontext()

    def rewrite(self, lm: LanguageModel, prompts: Sequence[str], cases: Sequence[int]) -> Sequence[str]:
        """The prompts unchanged."""
        return prompts

    def follow(self, earlier: Delta) -> Delta | None:
        """None: each delta acts by itself."""
        return None

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        return {name: value for name, value in self._fields().items() if isinstance(value, Tensor)}

    def settings(self) -> dict[str, Any]:
        """The fields that are not tensors, without unset ones."""
        return {
            name: value
            for name, value in self._fields().items()
            if value is not None and not isinstance(value, Tensor)
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """The change that had these tensors and settings."""
        return cls(**settings, **tensors)

    def select(self, indices: Sequence[int] | Tensor) -> Self:
        """The change of some of the cases, in the order of `indices`."""
        return self._map(lambda tensor: tensor[torch.as_tensor(indices, device=tensor.device)])

    def to(self, device: torch.device | torch.dtype) -> Self:
        """The change on another device, or in another precision."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return replace(cast(Any, self), **{name: function(tensor) for name, tensor in self.tensors().items()})

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}


KINDS: dict[str, type[Delta]] = {}
"""The kinds of deltas by their names, as far as their modules have been imported."""

Kind = TypeVar("Kind", bound=type)


def register(kind: Kind) -> Kind:
    """Class decorator: deltas of this kind can be read back from files, under the name of the class."""
    other = KINDS.setdefault(kind.__name__, kind)
    if (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(
            f"{kind.__module__} and {other.__module__} both have deltas of kind {kind.__name__}; rename one"
        )
    KINDS[kind.__name__] = kind
    return kind
