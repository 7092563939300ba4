"""SERAC: edits are put into a cache, and a counterfactual model answers prompts in their scope.

The scope classifier and the counterfactual model are trained by their own stage (`serac_training`) and belong
to one model. Nothing is optimised for an edit: its text is kept, with the vector that the classifier makes of
its key. The text is the prompt with its target; the key is the prompt (paper) or the text less its last word
(released: `rsplit(" ", 1)`, so that "Ann was born in New York" is found by "Ann was born in New").
The release cuts so by the model's name, and takes those of all others for models whose input does not hold
the target; it then puts the target behind the text once more (`label: repeated`).

Two edits of one prompt have one key, in the released variant where their targets are single words: of these
the last one answers in the paper's variant, and the first one in the released code, whose maximum takes the
first of equals.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contract import Contexts, Editor, EditResult, Memory
from aftershock.editors.serac import SeracSettings
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.edits.routed import Routed
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.scope_models import ScopeModels
from aftershock.lm.scoring import score_states
from aftershock.prompts import bare, join
from aftershock.requests import EditRequest, Query

EPSILON = torch.finfo(torch.float32).eps  # that the released mixture adds to every probability


class Serac(Editor):
    """SERAC: one delta per call, with as many cached edits as the largest case has requests."""

    def __init__(
        self,
        lm: LanguageModel,
        settings: SeracSettings,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        super().__init__(lm, settings, artifacts, seed, contexts)
        models: ScopeModels | None = self.artifacts.get("scope_models")
        if models is None:
            raise ValueError(
                "serac needs a scope classifier and a counterfactual model: train them for this model first "
                "(rule train_serac)"
            )
        self.models = models

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one delta that holds the edits of `cases`; a case's loss is that of its targets after it.

        The memory has the texts and keys of all edits of a case, the first ones first. Later edits count how
        many there are, so that of equally similar ones the last is known.
        """
        texts, keys = self._entries(cases)
        known = memory["texts"].shape[1] if memory else 0
        ages = known + torch.arange(texts.shape[1], device=texts.device).expand(len(cases), -1)
        soft, released = self.settings.mixing == "soft", self.settings.variant == "released"
        delta = Routed(
            self.models,
            texts,
            keys,
            ages,
            soft=soft,
            newest=not released,
            epsilon=EPSILON if released and soft else 0.0,
        )
        reasons = self._too_long(cases, texts)
        losses, unsound = self._losses(cases, state, delta)
        reasons = [reason or other for reason, other in zip(reasons, unsound, strict=True)]
        failed = torch.tensor([reason is not None for reason in reasons])
        delta = delta.without(failed)
        made = {"texts": delta.texts, "keys": delta.keys}
        if memory:
            made = {name: _beside(memory[name].to(tensor.device), tensor) for name, tensor in made.items()}
        steps = tuple(int(reason is None) for reason in reasons)
        return EditResult((delta,), steps, tuple(losses), tuple(reasons), made)

    @torch.no_grad()
    def _entries(self, cases: Sequence[Sequence[EditRequest]]) -> tuple[Tensor, Tensor]:
        """Texts (B, n, width) as `Routed` has them, and keys (B, n, d); cases with fewer edits have zeros."""
        requests = [request for case in cases for request in case]
        texts = [self._text(request) for request in requests]
        read = self.models.counterfactual.tokenize(texts, add_special_tokens=False)["input_ids"]
        vectors = self.models.classifier.embed([self.key(request) for request in requests])
        most, width = max(map(len, cases)), max(map(len, read))
        found = torch.zeros(len(cases), most, width, dtype=torch.long, device=vectors.device)
        keys = vectors.new_zeros(len(cases), most, vectors.shape[1])
        places = [(i, j) for i, case in enumerate(cases) for j in range(len(case))]
        for place, ids, vector in zip(places, read, vectors, strict=True):
            found[place][: len(ids)] = torch.tensor(ids) + 1
            keys[place] = vector
        return found, keys

    def key(self, request: EditRequest) -> str:
        """The text that prompts are compared with to find a request."""
        if self.settings.variant == "paper":
            return bare(request.text)
        text, end = join(request.text, request.target_new), self.models.classifier.encoder.separator
        if self.settings.label == "repeated":
            return text + end + request.target_new.strip(" ") + end
        return text.rsplit(" ", 1)[0] + end

    def _text(self, request: EditRequest) -> str:
        """The text that the counterfactual model reads before a prompt."""
        text = join(request.text, request.target_new)
        return join(text, request.target_new) if self.settings.label == "repeated" else text

    def _too_long(self, cases: Sequence[Sequence[EditRequest]], texts: Tensor) -> list[str | None]:
        """Reason why the counterfactual model cannot read an edit and its own prompt; None where it can."""
        most = self.models.counterfactual.context // 2
        lengths = (texts > 0).sum(dim=2).max(dim=1).values.tolist()
        return [
            f"the edit has {length} tokens, and the counterfactual model reads edits of {most} at most"
            if length > most
            else None
            for length in lengths
        ]

    def _losses(
        self, cases: Sequence[Sequence[EditRequest]], state: State, delta: Routed
    ) -> tuple[list[float], list[str | None]]:
        """The mean loss of each case's target tokens after its edit, and the reason why it failed."""
        queries = [Query(r.text, r.target_new, i) for i, case in enumerate(cases) for r in case]
        found: list[list[float]] = []
        for scores in score_states(self.lm, queries, [state, (*state, delta)]):
            logs: list[list[float]] = [[] for _ in cases]
            for query, score in zip(queries, scores, strict=True):
                logs[query.case] += score.token_logprobs
            found.append([-math.fsum(mine) / len(mine) for mine in logs])
        reasons = [
            None
            if math.isfinite(before) and math.isfinite(after)
            else f"the loss of the edit was {after}, and {before} before it"
            for before, after in zip(*found, strict=True)
        ]
        return found[1], reasons


def _beside(before: Tensor, added: Tensor) -> Tensor:
    """The entries of two tensors (B, n, ...) one after the other, as wide as the wider ones."""
    width = max(before.shape[2], added.shape[2])
    wide = [torch.nn.functional.pad(part, (0, width - part.shape[2])) for part in (before, added)]
    return torch.cat(wide, dim=1)
