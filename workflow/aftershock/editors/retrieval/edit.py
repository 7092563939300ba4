"""Retrieval of facts for each prompt: see the package."""

from collections.abc import Sequence

from aftershock.editors.statements import draw_others
from aftershock.editors.text_editor import Cases, TextEditor
from aftershock.lm.edits import State
from aftershock.lm.edits.context import Context
from aftershock.lm.edits.index import Index
from aftershock.lm.text_encoder import EMBEDDINGS, text_encoder
from aftershock.requests import EditRequest


class Retrieval(TextEditor):
    """An index of a case's statements, and of others where there are distractors."""

    def make_delta(self, cases: Cases, state: State) -> Context:
        """Return the index of the cases' facts; distractors are in the first one of a state."""
        s = self.settings
        began = any(isinstance(delta, Index) for delta in state)
        indexed = [[*([] if began else self._distractors(case)), *case] for case in cases]
        encoder = self.artifacts["sentence_encoder"] if s.encoder == "sentences" else EMBEDDINGS
        encode = text_encoder(self.lm, encoder)
        return Index.of_keys(
            [self.statements_of(case) for case in indexed],
            [encode(self._keys(case)) for case in indexed],
            [self.examples_of(case) for case in cases],
            nearest=s.nearest,
            threshold=s.threshold,
            encoder=encoder,
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
