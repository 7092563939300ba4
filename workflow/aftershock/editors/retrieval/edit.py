"""Editor of retrieval: see the package."""

from collections.abc import Sequence

from aftershock.editors.statements import draw_others
from aftershock.editors.text_editor import Cases, TextEditor
from aftershock.lm.edits import State
from aftershock.lm.edits.context import Context
from aftershock.lm.edits.index import Index
from aftershock.lm.networks.text_match import TOKENS, matcher_of
from aftershock.requests import EditRequest


class Retrieval(TextEditor):
    """Retrieval: an index of a case's statements, and of distractors where there are any."""

    def make_delta(self, cases: Cases, state: State) -> Context:
        """Return the index of the cases' facts; distractors are in the first one of a state."""
        s = self.settings
        began = any(isinstance(delta, Index) for delta in state)
        indexed = [[*([] if began else self._distractors(case)), *case] for case in cases]
        matcher = self.artifacts["sentence_encoder"] if s.match == "sentences" else TOKENS
        return Index.of(
            [self.statements_of(case) for case in indexed],
            [self.examples_of(case) for case in cases],
            keys=matcher_of(self.lm, matcher).keys([self._keys(case) for case in indexed]),
            nearest=s.nearest,
            threshold=s.threshold,
            matcher=matcher,
            **self.form,
        )

    def _distractors(self, case: Sequence[EditRequest]) -> list[EditRequest]:
        """Return edits of other cases, which count as older than this one's."""
        if not self.settings.distractors:
            return []
        return draw_others(self.artifacts["other_edits"], case, self.settings.distractors, self.seed)

    def _keys(self, case: Sequence[EditRequest]) -> list[str]:
        """Return the texts by which facts are found."""
        if self.settings.keys == "statement":
            return self.statements_of(case)
        return [request.subject if self.settings.keys == "subject" else request.text for request in case]
