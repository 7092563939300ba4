"""Validation of paraphrases, with the reason against each rejected one.

A template holds one slot and ends where the object's label follows after one space: in a letter, a digit, a
comma or the slot itself. A comma is taken because a name can follow it inside a sentence; a colon is not,
since it makes a form of the sentence, and what models put after a form is as often a line break as a name.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from aftershock.kg.screen import OFFENSIVE, REVIEWED, Screen
from aftershock.paraphrases.language import ENGLISH, is_english
from aftershock.prompts import SLOT

LONGEST = 200  # characters
NO_TEXT = "not a text"
CONTROL = "control or invisible characters"
EMPTY = "empty"
LONG = f"longer than {LONGEST} characters"
NO_SLOT = "no slot {}"
SLOTS = "more than one slot {}"
BRACES = "braces beside the slot"
PLACEHOLDER = "a placeholder where the object belongs"
ENDING = "does not end where the object follows"
LEAK = "names an object of the relation"
LANGUAGE = "not English"
PROMPT = "repeats the prompt"
KNOWN = "already in paraphrases.tsv"
REPEATED = "repeats another paraphrase"
REASONS = (
    NO_TEXT,
    CONTROL,
    EMPTY,
    LONG,
    NO_SLOT,
    SLOTS,
    BRACES,
    PLACEHOLDER,
    ENDING,
    LEAK,
    LANGUAGE,
    OFFENSIVE,
    REVIEWED,
    PROMPT,
    KNOWN,
    REPEATED,
)

_PLACEHOLDER = re.compile(r"[\[\]<>]|__|\.\.|…")
_QUOTES = ("''", '""', "“”", "‘’", "``")
_WORD = re.compile(r"\w+")


def tidy(text: str) -> str:
    """`text` in composed letters, without spaces and quotation marks around it or double spaces inside."""
    text = unicodedata.normalize("NFC", text).strip()
    if len(text) > 1 and text[0] + text[-1] in _QUOTES:
        text = text[1:-1].strip()
    return re.sub(r" {2,}", " ", text)


def normal(template: str) -> tuple[str, ...]:
    """The words of a template and its slot, without case, punctuation and variants of characters."""
    folded = unicodedata.normalize("NFKC", template).casefold()
    return tuple(re.findall(r"\{\}|\w+", folded))


class Labels:
    """Labels of a relation's objects, searched for in texts."""

    def __init__(self, labels: Iterable[str], wording: str) -> None:
        """Leave out labels made only of function words and words of `wording`: they give nothing away."""
        plain = ENGLISH | set(_words(wording))
        found = {tuple(_words(label)) for label in labels}
        self.labels = {words for words in found if words and not set(words) <= plain}
        self.lengths = sorted({len(words) for words in self.labels})

    def within(self, text: str) -> bool:
        """True if one of them occurs in `text` as whole words, whatever the case."""
        words = _words(text)
        return any(
            tuple(words[start : start + length]) in self.labels
            for length in self.lengths
            for start in range(len(words) - length + 1)
        )


@dataclass
class Validator:
    """Validates the candidates of one relation in order, and remembers the accepted ones."""

    prompt: str
    reviewed: Collection[str] = ()
    """Templates of the relation in paraphrases.tsv, kept or dropped."""
    objects: Collection[str] = ()
    """Known labels of the relation's objects."""
    wording: str = ""
    """Words that describe the relation itself, beside those of its prompt."""
    screen: Screen = Screen()
    """Screen of offensive words."""
    accepted: set[tuple[str, ...]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._labels = Labels(self.objects, f"{self.prompt} {self.wording}")
        self._reviewed = {normal(template) for template in self.reviewed}

    def judge(self, found: object) -> tuple[str, str | None]:
        """The template in `found`, and the first reason against it; None where there is none."""
        if not isinstance(found, str):
            return str(found)[:LONGEST], NO_TEXT
        template = tidy(found)
        reason = form_fault(template) or self._fault(template)
        if reason is None:
            self.accepted.add(normal(template))
        return _printable(template)[:LONGEST], reason

    def _fault(self, template: str) -> str | None:
        words = normal(template)
        if self._labels.within(template):
            return LEAK
        if fault := self.screen.fault(template):
            return fault
        if not is_english(template):
            return LANGUAGE
        if words == normal(self.prompt):
            return PROMPT
        if words in self._reviewed:
            return KNOWN
        return REPEATED if words in self.accepted else None


def form_fault(template: str) -> str | None:
    """The first reason against the form of a template, whatever the relation; None where there is none."""
    if any(_hidden(character) for character in template):
        return CONTROL
    if not template:
        return EMPTY
    if len(template) > LONGEST:
        return LONG
    if template.count(SLOT) != 1:
        return SLOTS if SLOT in template else NO_SLOT
    if set("{}") & set(template.replace(SLOT, "")):
        return BRACES
    if _PLACEHOLDER.search(template):
        return PLACEHOLDER
    return None if template.endswith((SLOT, ",")) or template[-1].isalnum() else ENDING


def _hidden(character: str) -> bool:
    """True for a control, format or private character, a surrogate, or a line separator."""
    return unicodedata.category(character)[0] == "C" or unicodedata.category(character) in ("Zl", "Zp")


def _printable(text: str) -> str:
    """`text` with its hidden characters written out, so that a table and a terminal can show it."""
    return "".join(f"\\u{ord(character):04x}" if _hidden(character) else character for character in text)


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
