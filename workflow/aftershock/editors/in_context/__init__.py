"""In-context editing: the new fact is put before every prompt of its case; no weight changes.

Zheng et al. (2023), "Can We Edit Factual Knowledge by In-Context Learning?" (IKE), and Cohen et al. (2024),
"Evaluating the Ripple Effects of Knowledge Editing in Language Models" (ICE), whose editor is the statement
alone. Here it is the oracle: a case's own facts are put in front of everything that its case asks, about
neighbours as well, without any search for them. `retrieval` searches.

Examples are IKE's demonstrations of the kind "copy": facts of other cases, each stated and then taken
up. Its kinds "update" (another wording) and "retain" (a fact that stays) are missing, and examples are
drawn with the seed, where IKE takes the nearest of a training set.
"""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT
from aftershock.editors.statements import Order, Reserve, StatementTemplate


@dataclass(frozen=True, config=STRICT)
class InContextSettings:
    """Settings of the text put before a prompt."""

    statement: StatementTemplate = "{fact}."
    """A statement, with {fact} in place of an edit's prompt and target."""
    separator: str = " "
    """The text between statements, and between these and the prompt."""
    order: Order = "newest_last"
    """Position of the last edit's statement: next to the prompt, or first of all."""
    examples: Annotated[int, Field(ge=0)] = 0
    """Facts of other cases in front of a case's own, each stated and then taken up."""
    reserve: Reserve = 48
    """Tokens that are kept free behind a prompt for its target or continuation. Where statements leave no
    room for them and the prompt, examples are left out first, then the oldest statements."""


METHOD = Method(
    settings=InContextSettings,
    editor=".edit:InContext",
    title="In-context (IKE)",
    source="Zheng et al. (2023), Cohen et al. (2024)",
    in_weights=False,
    changes="no weights: the case's own facts stand before its prompts",
    paper="demonstrations that copy, update and retain, the nearest of a training set; here those that copy, "
    "drawn with the seed (`examples`)",
    artifacts=lambda settings: ("other_edits",) if settings.examples else (),
    change="texts",
    example={"reserve": 8},
)
