"""The base of editors that leave the model unchanged and put the new facts before a prompt."""

from abc import abstractmethod
from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch

from aftershock.editors.contract import Editor, EditResult, Memory
from aftershock.editors.statements import draw_others, give_example, state_fact
from aftershock.lm.edits import State
from aftershock.lm.edits.context import Context
from aftershock.lm.scoring import score
from aftershock.requests import EditRequest, Query

Cases = Sequence[Sequence[EditRequest]]


class TextEditor(Editor):
    """An editor whose change is text: statements of all requests of a case, in their order.

    Nothing is optimised, so that an edit has no steps. Its loss is the mean negative log-probability of a
    target token after the edit. A case fails whose statement leaves no room for its own prompt.
    """

    def edit(self, cases: Cases, state: State = (), memory: Memory | None = None) -> EditResult:
        """Return the delta of these cases' statements; those of `state` are in its own deltas."""
        reasons = [self._fault(case) for case in cases]
        delta = self._alone(self.make_delta(cases, state), reasons)
        losses = self._losses(cases, (*state, delta), reasons)
        for i, loss in enumerate(losses):
            if reasons[i] is None and not isfinite(loss):
                reasons[i] = f"the loss is not finite ({loss})"
        delta = self._alone(delta, reasons)
        return EditResult((delta,), (0,) * len(cases), tuple(losses), tuple(reasons))

    @abstractmethod
    def make_delta(self, cases: Cases, state: State) -> Context:
        """Return the change of the cases, which start from `state`."""

    def statements_of(self, case: Sequence[EditRequest]) -> list[str]:
        """Return the statements of a case's requests."""
        return [state_fact(request, self.settings.statement) for request in case]

    def examples_of(self, case: Sequence[EditRequest]) -> list[str]:
        """Return the examples put before a case's statements."""
        s = self.settings
        if not s.examples:
            return []
        drawn = draw_others(self.artifacts["other_edits"], case, s.examples, self.seed)
        return [give_example(request, s.statement, s.separator) for request in drawn]

    @property
    def form(self) -> dict[str, Any]:
        """The layout of statements and prompts."""
        s = self.settings
        return {"order": s.order, "separator": s.separator, "reserve": s.reserve}

    def _fault(self, case: Sequence[EditRequest]) -> str | None:
        """Reason why a case cannot be edited: its statement leaves no room for its prompt or its target."""
        lm, s = self.lm, self.settings
        for request in case:
            text = state_fact(request, s.statement) + s.separator + request.text
            (read,), (target,) = lm.encode_prompts([text]), lm.encode_targets([request.target_new])
            if len(target) > s.reserve:
                return (
                    f"target {request.target_new!r} has {len(target)} tokens, more than reserve, {s.reserve}"
                )
            if len(read) + s.reserve > lm.context:
                return (
                    f"the statement about {request.subject!r} and its prompt have {len(read)} tokens; with "
                    f"reserve, {s.reserve}, that is more than the model's context of {lm.context}"
                )
        return None

    def _losses(self, cases: Cases, state: State, reasons: Sequence[str | None]) -> list[float]:
        """Mean negative log-probability of a target token of each case's requests; 0 where it failed."""
        asked = [
            Query(request.text, request.target_new, i)
            for i, case in enumerate(cases)
            if reasons[i] is None
            for request in case
        ]
        found: list[list[float]] = [[] for _ in cases]
        for query, result in zip(asked, score(self.lm, asked, state), strict=True):
            found[query.case].append(-result.logprob / len(result.token_logprobs))
        return [sum(values) / len(values) if values else 0.0 for values in found]

    def _alone(self, delta: Context, reasons: Sequence[str | None]) -> Context:
        """`delta` without the cases that failed."""
        return delta.without(torch.tensor([reason is not None for reason in reasons], dtype=torch.bool))
