"""One edit of a source, and how its prompt gets a slot for the subject."""

import re
from dataclasses import dataclass

from aftershock.matching import normal
from aftershock.prompts import SLOT


@dataclass(frozen=True)
class SourceEdit:
    """An edit with what the model is asked about it."""

    source_id: str  # its name in the source
    prompt: str  # with a slot for the subject
    subject: str
    target_new: str
    target_true: str = ""  # where the source has one
    answers: tuple[str, ...] = ()  # all true objects, where the source has several
    relation: str | None = None
    paraphrases: tuple[str, ...] = ()  # whole texts
    neighbours: tuple[tuple[str, str], ...] = ()  # whole texts that should stay, with what should follow
    alike: bool = True  # neighbours ask for the edit's relation, so that its new object could spill over


def with_slot(prompt: str, subject: str) -> str:
    """Return a prompt with a slot in place of its subject; ValueError where it is not there.

    Of several places the last that stands as a word of its own is taken: there a model has read the most. A
    subject that ends in a bracket or a dot has no end of a word, so that any place will do.
    """
    if SLOT in prompt:
        raise ValueError(f": the prompt {prompt!r} holds {SLOT!r}, which stands for a subject")
    places = list(re.finditer(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt))
    start = places[-1].start() if places else prompt.rfind(subject)
    if start < 0:
        alike = " but for its case or its Unicode form" if normal(subject) in normal(prompt) else ""
        raise ValueError(f": the subject {subject!r} does not occur in the prompt {prompt!r}{alike}")
    return prompt[:start] + SLOT + prompt[start + len(subject) :]
