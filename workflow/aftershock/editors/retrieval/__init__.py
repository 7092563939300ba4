"""Retrieval: the written facts nearest to a prompt are put before it; no weight changes.

What weight editing is compared with as a "context retriever" (arXiv 2507.05937) or a retrieval baseline
(Thede et al., 2025, WikiBigEdit). A prompt is encoded by itself, and gets the nearest statements whose
similarity reaches a threshold. That is decided once for a prompt: all its targets, and its whole
continuation, are read after the same statements.

By tokens and with subjects as keys, which is the default, a prompt finds the facts about whom it names. On
the embedded world (40 coverage cases, all first edits in one index) the fact was the nearest one for all edit
prompts and all their paraphrases, with a similarity of 1, and nine of ten neighbours came to 0.77 at most:
hence the threshold. With whole prompts as keys, neighbours come as near as paraphrases, since they share the
words of the relation: no threshold tells them apart there.

A case's index holds the facts of its own edits and, as distractors, first edits of other cases of its
dataset about other subjects, as an editor has that wrote them all; they count as older than the case's own.
An index over a sequence of edits, whose order would matter, is not implemented.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Count
from aftershock.editors.statements import Order, Reserve, StatementTemplate


@dataclass(frozen=True, config=STRICT)
class RetrievalSettings:
    """Settings of comparing a prompt with facts, and of the text put before it."""

    nearest: Count = 1
    """Statements that a prompt gets at most. Several true objects of one prompt need as many."""
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.85
    """Similarity that a statement needs at least."""
    match: Literal["tokens", "sentences"] = "tokens"
    """The measure of how alike a prompt and a fact are: the model's input embeddings by token, or cosines
    of the sentence encoder that cases.label_encoder names. See `lm/networks/text_match.py`."""
    keys: Literal["subject", "prompt", "statement"] = "subject"
    """The part of a fact that prompts are compared with."""
    distractors: Annotated[int, Field(ge=0)] = 0
    """Facts of other cases in the index."""
    statement: StatementTemplate = "{fact}."
    """A statement, with {fact} in place of an edit's prompt and target."""
    separator: str = " "
    """The text between statements, and between these and the prompt."""
    order: Order = "newest_last"
    """Position of the nearest statement (the newest of equally near ones): next to the prompt, or first of
    all.
    """
    examples: Annotated[int, Field(ge=0)] = 0
    """Facts of other cases, each stated and then taken up, in front of the statements of a prompt that gets
    any."""
    reserve: Reserve = 48
    """Tokens that are kept free behind a prompt for its target or continuation. Where statements leave no
    room for them and the prompt, examples are left out first, then the statements that are less near."""


def _artifacts(settings: RetrievalSettings) -> tuple[str, ...]:
    encoder = ("sentence_encoder",) if settings.match == "sentences" else ()
    return encoder + (("other_edits",) if settings.distractors or settings.examples else ())


METHOD = Method(
    settings=RetrievalSettings,
    editor=".edit:Retrieval",
    title="Retrieval",
    source="arXiv 2507.05937 (context retriever), Thede et al. (2025)",
    in_weights=False,
    changes="no weights: the facts nearest to a prompt stand before it",
    artifacts=_artifacts,
    change="texts",
    example={"reserve": 8},
)
