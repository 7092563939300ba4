"""Where a prompt's subject lies among its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from aftershock.lm.model import LanguageModel
from aftershock.prompts import fill, split


@dataclass(frozen=True)
class Located:
    """The tokens of a filled template, and the index of the subject's last one."""

    ids: tuple[int, ...]
    subject: int

    def then(self, more: Sequence[int]) -> "Located":
        """These tokens with `more` after them."""
        return Located((*self.ids, *more), self.subject)


def locate(lm: LanguageModel, asked: Sequence[tuple[str, str]]) -> list[Located]:
    """One Located per (template, subject), found by the characters that each token covers.

    Equals the released rule (tokens before the subject plus tokens of the subject) where no token spans the
    subject's first character and the text before it, and needs no assumption where one does.
    """
    texts = [fill(template, subject) for template, subject in asked]
    encoded = lm.tokenizer(texts, return_offsets_mapping=True)
    found = []
    for (template, subject), text, ids, spans in zip(
        asked, texts, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        lm.check_length(ids, text)
        start = len(split(template)[0])
        end = start + len(subject.rstrip())
        inside = [i for i, (first, last) in enumerate(spans) if last > first and first < end and last > start]
        if not inside:
            raise ValueError(f"subject {subject!r} has no token in {text!r}")
        found.append(Located(tuple(ids), inside[-1]))
    return found
