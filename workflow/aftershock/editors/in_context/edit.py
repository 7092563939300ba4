"""Editor of in-context editing: see the package."""

from aftershock.editors.text_editor import Cases, TextEditor
from aftershock.lm.edits import State
from aftershock.lm.edits.context import Context


class InContext(TextEditor):
    """In-context editing: a case's statements before every prompt of the case."""

    def make_delta(self, cases: Cases, state: State) -> Context:
        """Return the statements of the cases, with their examples."""
        statements = [self.statements_of(case) for case in cases]
        return Context.of(statements, [self.examples_of(case) for case in cases], **self.form)
