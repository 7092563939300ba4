"""Changes in the form of text: statements of facts that a model reads before its prompts.

Statements are kept as bytes in tensors with a case axis, so that they are saved, selected and loaded like any
other change. They enter a prompt before anything is put around it: they stand inside the frame of a chat
template, and behind a document token.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from aftershock.lm.edits.delta import CaseTensors, Delta, register
from aftershock.lm.model import LanguageModel

Order = Literal["newest_last", "newest_first"]
AROUND = 8  # tokens that a tokenizer may put around a text, or add to one

UNRELATED = (
    "Water boils at a lower temperature high up in the mountains.",
    "A square has four sides of equal length.",
    "Most owls hunt at night.",
    "The kettle in the kitchen is made of steel.",
    "Bread rises because of yeast.",
    "The tides follow the moon.",
    "A week has seven days.",
    "Copper conducts electricity well.",
    "Some frogs can change their colour.",
    "The old bridge was closed for repairs.",
    "Snow reflects most of the sunlight.",
    "A violin has four strings.",
    "Honey keeps for many years.",
    "The train left a few minutes late.",
    "Sound travels faster in water than in air.",
    "Paper is often made from wood.",
)
"""Statements about none of a graph's entities, which a random change puts before prompts."""


@register
@dataclass(frozen=True)
class Context(CaseTensors):
    """Statements put before every prompt of a case, with example statements before them.

    A state's deltas of this kind act as one: all statements together, in the order of the edits. Where they
    leave no room in the model's context for a prompt and `reserve` tokens behind it, examples are left out
    first, then the oldest statements. A prompt is never cut.
    """

    texts: Tensor  # (B, F, bytes), uint8: statements in UTF-8, the oldest first
    sizes: Tensor  # (B, F), bytes of each statement; 0 for none
    examples: Tensor  # (B, E, bytes), uint8
    example_sizes: Tensor  # (B, E)
    order: Order = "newest_last"
    separator: str = " "
    reserve: int = 48

    per_token: ClassVar[bool] = True  # no module's output changes but by its input

    @classmethod
    def of(cls, statements: Sequence[Sequence[str]], examples: Sequence[Sequence[str]], **more: Any) -> Self:
        """The change that puts `statements[i]` before the prompts of case i, after `examples[i]`."""
        return cls(*pack_texts(statements), *pack_texts(examples), **more)

    @property
    def first_layer(self) -> int:
        """0: the input of the first layer changes."""
        return 0

    @property
    def name(self) -> str:
        """The kind."""
        return type(self).__name__

    @property
    def statements(self) -> list[list[str]]:
        """The statements of each case, the oldest first."""
        return unpack_texts(self.texts, self.sizes)

    def rewrite(self, lm: LanguageModel, prompts: Sequence[str], cases: Sequence[int]) -> Sequence[str]:
        """The prompts with as many statements before them as fit."""
        asked = list(dict.fromkeys(zip(prompts, cases, strict=True)))
        examples = unpack_texts(self.examples, self.example_sizes)
        fitted = [
            _fit(lm, prompt, [*(examples[case] if chosen else ()), *chosen], self)
            for (prompt, case), chosen in zip(asked, self.choose(lm, asked), strict=True)
        ]
        if n_short := sum(lost > 0 for _, lost in fitted):
            logging.warning(
                "%d of %d prompts are read without some statements: the model's context of %d tokens has no "
                "room for all of them and %d tokens behind the prompt",
                n_short,
                len(asked),
                lm.context,
                self.reserve,
            )
        read = {pair: text for pair, (text, _) in zip(asked, fitted, strict=True)}
        return [read[pair] for pair in zip(prompts, cases, strict=True)]

    def choose(self, lm: LanguageModel, asked: Sequence[tuple[str, int]]) -> Sequence[Sequence[str]]:
        """The statements to put before each (prompt, case), those to be dropped first in front."""
        statements = self.statements
        return [statements[case] for _, case in asked]

    def follow(self, earlier: Delta) -> Delta | None:
        """The statements of `earlier` and these, with the examples of this one; None for another kind."""
        if type(earlier) is not type(self) or earlier.settings() != self.settings():
            return None
        return replace(self, **self._joined(earlier))

    def _joined(self, earlier: Self) -> dict[str, Tensor]:
        """The fields of both."""
        width = max(earlier.texts.shape[2], self.texts.shape[2])
        texts = [
            torch.nn.functional.pad(delta.texts, (0, width - delta.texts.shape[2]))
            for delta in (earlier, self)
        ]
        return {"texts": torch.cat(texts, dim=1), "sizes": torch.cat([earlier.sizes, self.sizes], dim=1)}

    def without(self, cases: Tensor) -> Self:
        """The change with no text in the cases that are true in `cases` (B,)."""
        gone = cases.to(self.sizes.device)[:, None]
        sizes = self.sizes.masked_fill(gone, 0), self.example_sizes.masked_fill(gone, 0)
        return replace(self, sizes=sizes[0], example_sizes=sizes[1])

    def squared_norm(self) -> Tensor:
        """Zeros: no weight changes."""
        return torch.zeros(len(self), dtype=torch.float64)

    def random_like(self, generators: Sequence[torch.Generator]) -> Self:
        """The same number of statements of UNRELATED, drawn for each case, in the same places."""
        drawn = [
            [
                UNRELATED[i]
                for i in torch.randint(len(UNRELATED), (self.sizes.shape[1],), generator=g).tolist()
            ]
            for g in generators
        ]
        texts, sizes = (tensor.to(self.sizes.device) for tensor in pack_texts(drawn))
        return replace(self, texts=texts, sizes=sizes.masked_fill(self.sizes == 0, 0))

    def to(self, device: torch.device | torch.dtype) -> Self:
        """The change on another device; text has no precision."""
        return self if isinstance(device, torch.dtype) else super().to(device)


def _fit(lm: LanguageModel, prompt: str, before: Sequence[str], how: Context) -> tuple[str, int]:
    """A prompt with the last ones of the texts `before` it that fit, and the number left out."""
    room = lm.context - how.reserve
    around = AROUND + len((lm.frame.before + lm.frame.after).encode())
    for lost in range(len(before)):
        kept = before[lost:]
        if how.order == "newest_first":
            kept = kept[::-1]
        text = "".join(statement + how.separator for statement in kept) + prompt
        # a token covers a byte at least, so that short texts need not be read
        if len(text.encode()) + around <= room or len(lm.encode_prompts([text])[0]) <= room:
            return text, lost
    return prompt, len(before)


# --- texts in tensors --------------------------------------------------------------------------------------
def pack_texts(rows: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Rows of texts as uint8 (rows, texts, bytes) and their sizes (rows, texts), both padded with zeros."""
    encoded = [[text.encode() for text in row] for row in rows]
    most = max(map(len, encoded), default=0)
    width = max((len(text) for row in encoded for text in row), default=0)
    sizes = torch.zeros(len(rows), most, dtype=torch.long)
    texts = torch.zeros(len(rows), most, width, dtype=torch.uint8)
    for i, row in enumerate(encoded):
        for j, text in enumerate(row):
            sizes[i, j] = len(text)
            texts[i, j, : len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return texts, sizes


def unpack_texts(texts: Tensor, sizes: Tensor) -> list[list[str]]:
    """The texts of each row that `pack_texts` packed; those of size 0 are left out."""
    cells, lengths = texts.cpu().numpy(), sizes.tolist()
    return [
        [cell[:size].tobytes().decode() for cell, size in zip(row, some, strict=True) if size]
        for row, some in zip(cells, lengths, strict=True)
    ]
