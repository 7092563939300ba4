"""The contract of an editor, and what editors share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from aftershock.editors.settings import is_sequential
from aftershock.editors.solvers import Factor
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.generation import sample
from aftershock.lm.model import LanguageModel
from aftershock.lm.moments import Moment
from aftershock.requests import EditRequest
from aftershock.seeds import derive

Contexts = Sequence[Sequence[str]]
"""Kinds of templates for a prompt; the first kind is the plain ["{}"]."""

PLAIN = "{}"
SAMPLED_FROM = 5  # the likeliest tokens that context text is drawn from (released code)


@dataclass(frozen=True)
class EditResult:
    """What an editor did for B cases: one delta with a case axis, and one entry per case of all else.

    A case that failed has a reason, and zeros in the delta. `details` are the intermediate quantities by the
    papers' letters, one mapping per optimisation or layer, for whoever checks or studies a method.
    """

    delta: State
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    reasons: tuple[str | None, ...]
    details: tuple[Mapping[str, Tensor], ...] = field(default=(), repr=False)


class Editor(ABC):
    """A method with its settings on one model.

    `edit` is given B cases, each a list of requests, and the state they start from, and returns their deltas.
    It never changes the model, and a case's delta does not depend on the cases beside it,
    unless the editor is `sequential`.
    """

    def __init__(
        self,
        lm: LanguageModel,
        settings: Any,
        moments: Mapping[int, Moment] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        beyond = [layer for layer in settings.layers if not 0 <= layer < lm.n_layers]
        if beyond or not settings.layers:
            raise ValueError(f"layers {list(settings.layers)}: the model has layers 0 to {lm.n_layers - 1}")
        self.lm, self.settings, self.seed = lm, settings, seed
        self.moments = moments or {}
        self.contexts = contexts
        self._factors: dict[int, Factor] = {}

    @property
    def case_bytes(self) -> int:
        """Bytes of one case's delta; those of low rank are not worth counting."""
        return 0

    @property
    def sequential(self) -> bool:
        """Whether an edit depends on those before it: then cases come one by one, in order."""
        return is_sequential(self.settings)

    @abstractmethod
    def edit(self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY) -> EditResult:
        """Edit case i with the requests `cases[i]`, starting from case i of `state`."""

    def factor(self, layer: int) -> Factor:
        """A layer's second moment, in a form to solve with; made once."""
        if layer not in self._factors:
            if layer not in self.moments:
                raise ValueError(f"no second moments of layer {layer}; given: {sorted(self.moments)}")
            matrix = self.moments[layer].matrix.to(self.lm.device)
            self._factors[layer] = Factor.of(matrix, f"the second moments of layer {layer}")
        return self._factors[layer]


class ContextEditor(Editor):
    """An editor that reads a prompt after several texts; without `contexts` the model writes them itself."""

    def __init__(
        self,
        lm: LanguageModel,
        settings: Any,
        moments: Mapping[int, Moment] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        if contexts is None:
            contexts = sample_contexts(lm, settings.context_openings, settings.context_lengths, seed)
        super().__init__(lm, settings, moments, seed, contexts)


def sample_contexts(
    lm: LanguageModel, openings: Sequence[str], lengths: Sequence[tuple[int, int]], seed: int
) -> Contexts:
    """Templates for a prompt: the plain one, then texts that the model itself writes, followed by ". {}".

    A kind for each (tokens, count): `count` texts per opening, of `tokens` tokens with the opening. Without
    an opening a text starts from the token that separates documents. Braces are removed from the texts.
    """
    starts = dict(zip(openings, lm.encode(openings), strict=True))
    if not starts:
        if lm.tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end-of-text token to sample contexts from; give openings")
        starts = {"": [lm.tokenizer.eos_token_id]}
    kinds = [[PLAIN]]
    for tokens, count in lengths:
        texts: list[str] = []
        for opening, ids in starts.items():
            texts += sample(lm, ids, tokens, count, SAMPLED_FROM, derive(seed, "contexts", tokens, opening))
        kinds.append([" ".join(t.replace("{", " ").replace("}", " ").split()) + ". {}" for t in texts])
    return kinds
