"""Reading of prompts, targets and documents as tokens, by a model's tokenizer and its model file."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerFast

from aftershock.lm.texts.beginning import AUTO, leading_ids
from aftershock.lm.texts.frames import PLAIN, Frame, Read, answer_ends, chat_frame, read_framed
from aftershock.prompts import bare, following, shortened

TargetIds = Literal["text", "released"]
SpecialTokens = Literal["characters", "tokens"]
PromptFormat = Literal["plain", "chat"]
TOO_LONG = (
    "leave the entity out with a row of resources/screen.tsv, give it a shorter label in the graph, or take "
    "a model with a longer context"
)


class TextReader:
    """The part of a language model that turns text into tokens.

    `target_ids` says how targets are read, see lm/texts/tokens.py. `special_tokens` says how a text that
    spells a special token is read: as its characters, since labels and documents are data, or as that
    token, as the papers' released code does. `document_token` says what every text begins with, see
    lm/texts/beginning.py, and `prompt_format` what stands around prompts, see lm/texts/frames.py.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    context: int
    target_ids: TargetIds = "text"
    special_tokens: SpecialTokens = "characters"
    document_token: str = AUTO
    prompt_format: PromptFormat = "plain"

    @cached_property
    def leading(self) -> tuple[int, ...]:
        """Return the ids in front of every text."""
        return leading_ids(self.tokenizer, self.document_token)

    @cached_property
    def frame(self) -> Frame:
        """Return the text around every prompt."""
        return chat_frame(self.tokenizer) if self.prompt_format == "chat" else PLAIN

    @property
    def ends(self) -> set[int]:
        """Return the tokens that end a continuation."""
        if self.prompt_format == "chat":
            return answer_ends(self.model, self.tokenizer, self.frame)
        return {self.tokenizer.eos_token_id}

    @cached_property
    def n_behind(self) -> int:
        """The number of tokens, such as an end-of-text token, that the tokenizer appends to every text."""
        special = self.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        return special[::-1].index(0)

    def tokenize(self, texts: Sequence[str], **options: bool) -> BatchEncoding:
        """Return the tokenizer's own encoding of data: labels, prompts with them, and documents."""
        as_characters = self.special_tokens == "characters"
        return self.tokenizer([bare(text) for text in texts], split_special_tokens=as_characters, **options)

    def read(self, texts: Sequence[str]) -> list[Read]:
        """Token ids of each text, as `encode` has them, and the characters that each token covers.

        Those in front of a text cover none. A tokenizer may leave the space out of what a word's covers.
        """
        front, made = self._begun(texts, "input_ids", "offset_mapping")
        nothing = [(0, 0)] * len(front)
        return [([*front, *ids], [*nothing, *spans]) for ids, spans in zip(*made, strict=True)]

    def read_prompts(self, pairs: Sequence[tuple[str, str | None]]) -> list[Read]:
        """Token ids and spans, as `read`, of prompts in their frame, with targets unless these are None."""
        if self.prompt_format == "plain":
            return self.read([PLAIN.whole(*pair) for pair in pairs])
        return read_framed(self.tokenizer, self.frame, pairs, self.special_tokens == "characters")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with leading ids and without those that the tokenizer appends."""
        front, (rows,) = self._begun(texts, "input_ids")
        return [[*front, *row] for row in rows]

    def encode_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts in their frame."""
        if self.prompt_format == "plain":
            return self.encode(prompts)
        return [ids for ids, _ in self.read_prompts([(prompt, None) for prompt in prompts])]

    def _begun(self, texts: Sequence[str], *columns: str) -> tuple[tuple[int, ...], list[list[Any]]]:
        """Return the ids still to be put in front, and `columns` of the encoding, cut after the text."""
        own = self.document_token == AUTO
        front, n_behind = ((), self.n_behind) if own else (self.leading, 0)
        options = {"add_special_tokens": own, "return_offsets_mapping": "offset_mapping" in columns}
        made = self.tokenize(texts, return_attention_mask=False, **options) if texts else {}
        return front, [[row[: len(row) - n_behind] for row in made.get(name, ())] for name in columns]

    def encode_targets(self, targets: Sequence[str]) -> list[list[int]]:
        """Token ids of each target alone, after one space: as the released protocol appends it."""
        return self.encode_alone([following("", target) for target in targets])

    def encode_alone(self, targets: Sequence[str]) -> list[list[int]]:
        """Token ids of each target alone, as it follows its prompt; ValueError when one has none."""
        ids = self.tokenize(targets, add_special_tokens=False)["input_ids"] if targets else []
        for target, row in zip(targets, ids, strict=True):
            if not target.strip() or not row:
                raise ValueError(f"target {target!r} has no tokens; a target needs at least one")
        return ids

    def check_length(self, ids: Sequence[int], text: str) -> None:
        """Raise ValueError when `ids`, the tokens of `text`, do not fit the model."""
        if len(ids) > self.context:
            raise ValueError(
                f"{shortened(text)!r} has {len(ids)} tokens, more than the model's context of "
                f"{self.context}; {TOO_LONG}"
            )
