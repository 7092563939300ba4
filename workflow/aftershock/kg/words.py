"""Bulk N-Triples parsing with array operations: form of lines, 8-byte comparisons, decimal numbers."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

PAD = 64  # bytes before and after the lines, so that no comparison leaves the array
WORD = 8  # bytes
SPREAD = 0x9E3779B97F4A7C15  # odd, so that products with small numbers differ in high bits


class Lines:
    """A block of N-Triples lines; all positions count from the start of the padded bytes."""

    def __init__(self, text: bytes) -> None:
        """Find the lines and blanks of `text`, which ends with a line break."""
        self.text = b"".join((bytes(PAD), text, bytes(PAD)))
        self.bytes = np.frombuffer(self.text, np.uint8)
        self.words = np.ndarray((len(self.text) - WORD + 1,), "<u8", self.text, strides=(1,))
        breaks = np.flatnonzero((self.bytes == ord(" ")) | (self.bytes == ord("\n")))
        last = np.flatnonzero(self.bytes[breaks] == ord("\n"))
        blank = np.concatenate(([0], last[:-1] + 1))  # the first one of each line, in `breaks`
        self.ends = breaks[last]  # (lines,) of the line breaks
        self.starts = np.concatenate(([PAD], self.ends[:-1] + 1))  # (lines,)
        self.first = breaks[blank]  # (lines,) of the blank after the subject
        self.second = breaks[
            np.minimum(blank + 1, len(breaks) - 1)
        ]  # (lines,) of the one after the predicate
        self.regular = (last - blank >= 3) & self._outline()  # (lines,) mask of lines in the form of dumps

    def line(self, number: int) -> bytes:
        """A line without its line break."""
        return self.text[self.starts[number] : self.ends[number]]

    def _outline(self) -> np.ndarray:
        """Mask of lines of the form `<…> <…> … .` or `_:… <…> … .`, without extra blanks or escaped IRIs."""
        found, opens = self.bytes, self.bytes[self.starts]
        value, last = found[self.second + 1], found[self.ends - 3]
        good = (opens == ord("_")) | ((opens == ord("<")) & (found[self.first - 1] == ord(">")))
        good &= (found[self.first + 1] == ord("<")) & (found[self.second - 1] == ord(">"))
        good &= (value == ord("<")) | (value == ord('"')) | (value == ord("_"))
        good &= (found[self.ends - 1] == ord(".")) & (found[self.ends - 2] == ord(" "))
        good &= (last != ord(" ")) & (last != ord("\t"))
        escapes = self._escapes
        if len(escapes):
            after = np.searchsorted(escapes, self.starts)
            good &= (after == len(escapes)) | (escapes[np.minimum(after, len(escapes) - 1)] > self.second)
        return good

    @cached_property
    def _escapes(self) -> np.ndarray:
        return np.flatnonzero(self.bytes == ord("\\"))


class Words:
    """Byte strings of at least eight bytes, searched for at many positions at once."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.lengths = np.array([len(text) for text in texts])
        count = -(-int(self.lengths.max()) // WORD)
        # The last word of each string overlaps the one before, and stands for all that a shorter one lacks.
        self.offsets = np.minimum(np.arange(count) * WORD, self.lengths[:, None] - WORD)  # (texts, words)
        self.values = np.array(
            [
                [int.from_bytes(text[at : at + WORD], "little") for at in offsets]
                for text, offsets in zip(texts, self.offsets, strict=True)
            ],
            np.uint64,
        )
        keys = _key(self.values[:, -1], self.lengths)
        self.order = np.argsort(keys)
        self.keys = keys[self.order]
        if len(np.unique(keys)) < len(keys):
            raise ValueError("two of the strings have the same length and ending")

    def find(self, lines: Lines, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Index of the string that stands at [start, end); -1 for none. As long as `starts`."""
        keys = _key(lines.words[ends - WORD], ends - starts)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        (likely,) = np.nonzero(self.keys[place] == keys)
        found = self.order[place[likely]]
        same = np.ones(len(likely), bool)
        for offsets, values in zip(self.offsets.T, self.values.T, strict=True):
            same &= lines.words[starts[likely] + offsets[found]] == values[found]
        result = np.full(len(starts), -1)
        result[likely[same]] = found[same]
        return result

    def begins(self, lines: Lines, starts: np.ndarray) -> np.ndarray:
        """Mask of the starts at which the first of the strings stands."""
        same = np.ones(len(starts), bool)
        for offset, value in zip(self.offsets[0], self.values[0], strict=True):
            same &= lines.words[starts + offset] == value
        return same


def _key(words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return words ^ (lengths.astype(np.uint64) * np.uint64(SPREAD))


def ends_with(lines: Lines, ends: np.ndarray, tail: bytes) -> np.ndarray:
    """Mask of `ends` at which a text ends with `tail`, of lower case and up to eight bytes.

    Letters are compared without their case, as in the tags of languages.
    """
    padded = tail.rjust(WORD, b"\0")
    keep = int.from_bytes(bytes(0xFF if byte else 0 for byte in padded), "little")
    fold = int.from_bytes(bytes(0x20 if chr(byte).isalpha() else 0 for byte in padded), "little")
    words = (lines.words[ends - WORD] & np.uint64(keep)) | np.uint64(fold)
    return words == np.uint64(int.from_bytes(padded, "little"))


def decimals(words: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decimal numbers in the last 1 to 8 bytes of words, and a mask of those that are all digits.

    Two, four, eight digits at a time: each step multiplies the higher half and adds the lower one.
    """
    shift = (np.uint64(WORD) - counts.astype(np.uint64)) * np.uint64(8)
    digits = ((words ^ np.uint64(0x3030303030303030)) >> shift) << shift
    above = (digits + np.uint64(0x7676767676767676)) | digits
    good = (above & np.uint64(0x8080808080808080)) == 0
    pairs = (digits * np.uint64(1 + (10 << 8)) >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
    fours = (pairs * np.uint64(1 + (100 << 16)) >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
    return (fours * np.uint64(1 + (10000 << 32)) >> np.uint64(32)).astype(np.int64), good
