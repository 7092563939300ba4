"""Texts before a prompt: editors read a prompt after several, so that an edit holds in any context."""

from collections.abc import Mapping, Sequence
from typing import Any

from aftershock.editors.contract import Contexts, Editor
from aftershock.editors.solvers import Factor
from aftershock.lm.generation import sample
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.beginning import opening_ids
from aftershock.seeds import derive

PLAIN = "{}"
SAMPLED_FROM = 5  # the likeliest tokens that context text is drawn from (released code)


class ContextEditor(Editor):
    """An editor that reads a prompt after several texts; without `contexts` the model writes them itself."""

    contexts: Contexts

    def __init__(
        self,
        lm: LanguageModel,
        settings: Any,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        if contexts is None:
            contexts = sample_contexts(lm, settings.context_openings, settings.context_lengths, seed)
        super().__init__(lm, settings, artifacts, seed, contexts)

        self._factors: dict[int, Factor] = {}

    def factor(self, layer: int) -> Factor:
        """Return a layer's second moment in a form to solve with; made once."""
        moments = self.artifacts.get("moments", {})
        if layer not in self._factors:
            if layer not in moments:
                raise ValueError(f"no second moments of layer {layer}; given: {sorted(moments)}")
            matrix = moments[layer].matrix.to(self.lm.device)
            self._factors[layer] = Factor.of(matrix, f"the second moments of layer {layer}")
        return self._factors[layer]

    @property
    def templates(self) -> list[str]:
        """All templates, without their kinds."""
        return [template for kind in self.contexts for template in kind]


def sample_contexts(
    lm: LanguageModel, openings: Sequence[str], lengths: Sequence[tuple[int, int]], seed: int
) -> Contexts:
    """Return templates for a prompt: the plain one, then texts that the model itself writes, followed by ".
    {}".

    A kind for each (tokens, count): `count` texts per opening, of `tokens` tokens with the opening. Without
    an opening a text starts from the document token, or from the end-of-text token. Braces are removed from
    the texts.
    """
    starts: dict[str, Sequence[int]] = dict(zip(openings, lm.encode(openings), strict=True))
    if not starts:
        starts = {"": opening_ids(lm.tokenizer, lm.document_token)}
    kinds = [[PLAIN]]
    for tokens, count in lengths:
        texts: list[str] = []
        for opening, ids in starts.items():
            texts += sample(lm, ids, tokens, count, SAMPLED_FROM, derive(seed, "contexts", tokens, opening))
        kinds.append([" ".join(t.replace("{", " ").replace("}", " ").split()) + ". {}" for t in texts])
    return kinds
