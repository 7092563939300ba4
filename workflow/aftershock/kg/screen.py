"""Screening of labels: offensive words, a classifier's scores, and a reviewer's decisions.

Words are found whatever their case, as whole words. A text that holds one is left out until a reviewer has
looked at it: a row of resources/screen.tsv keeps it (a name may hold such a word innocently), or drops a text
in which no listed word was found.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from aftershock.matching import normal
from aftershock.schema import read_sheet
from aftershock.text_files import read_text, sheet_cell

OFFENSIVE = "offensive word"
TOXIC = "judged offensive by the classifier"
REVIEWED = "dropped by review"
NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True)
class Screen:
    """Screen of texts by listed words, scores of a classifier, and reviewed decisions."""

    words: re.Pattern[str] = NOTHING
    decisions: Mapping[str, str] = field(default_factory=dict)  # keep or drop, by normalised text
    scores: Mapping[str, float] = field(default_factory=dict)  # of a classifier, by text
    threshold: float = 1.0  # of a score, from which on a text is left out

    def fault(self, text: str) -> str | None:
        """The reason that `text` is left out; None when it is not."""
        decision = self.decisions.get(normal(text))
        if decision:
            return REVIEWED if decision == "drop" else None
        return OFFENSIVE if self.words.search(normal(text)) else self._toxic(text)

    def sheet(self, texts: Iterable[str | None]) -> str:
        """The texts that await a review, each once, with their faults: rows to paste into screen.tsv.

        Texts with a tab or a line break cannot stand in a sheet; none of them ever becomes a label.
        """
        lines = ["text\tdecision\treason"]
        for text in sorted({text for text in texts if text and text.isprintable()}):
            fault = self.fault(text)
            if fault == OFFENSIVE and (match := self.words.search(normal(text))):
                lines.append(f"{sheet_cell(text)}\treview\tholds {match[0]}")
            elif fault == TOXIC:
                lines.append(f"{sheet_cell(text)}\treview\tscore {self.scores[text]:.3f}")
        return "\n".join(lines) + "\n"

    def _toxic(self, text: str) -> str | None:
        return TOXIC if text in self.scores and self.scores[text] >= self.threshold else None


def read_screen(
    words: str | Path | None, sheet: str | Path, scores: pd.DataFrame | None = None, threshold: float = 1.0
) -> Screen:
    """The screen given by a file of words, one a line (`#` starts a comment), and a reviewed sheet.

    A word that ends in `*` stands for all words that start so. `scores` are SCREEN_SCORES rows. ValueError
    names the line that holds more than a word, or the row of the sheet that is wrong.
    """
    decisions, errors = read_decisions(sheet)
    if errors:
        raise ValueError("\n".join(errors))
    found = {} if scores is None else dict(zip(scores["text"], scores["score"], strict=True))
    return Screen(_pattern(_lines(Path(words))) if words else NOTHING, decisions, found, threshold)


def read_decisions(sheet: str | Path) -> tuple[dict[str, str], list[str]]:
    """Return what screen.tsv decides, by normalised text, and what is wrong with its rows."""
    rows, errors = read_sheet(Path(sheet), "screen")
    found: dict[str, str] = {}
    for row in rows:
        if found.setdefault(normal(row["text"]), row["decision"]) != row["decision"]:
            errors.append(f"screen.tsv: {row['text']!r} is to be kept and to be dropped; leave one row")
    return found, errors


def _lines(path: Path) -> list[str]:
    words = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        word = normal(line.partition("#")[0])
        if word and not re.fullmatch(r"[\w' -]+\*?", word):
            raise ValueError(f"{path.name} line {number}: {line!r} is no word, nor one with * at its end")
        words += [word] if word else []
    return words


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    if not words:
        return NOTHING
    parts = [re.escape(w.removesuffix("*")) + (r"\w*" if w.endswith("*") else "") for w in words]
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)")
