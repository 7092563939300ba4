"""Items of tasks as tokens: read and cut as lm-evaluation-harness does it, so that numbers compare.

A choice follows its prompt as it stands. Both are read as one text, of which the prompt's share is as many
tokens as the prompt alone has; spaces at a prompt's end are read with the choice. Inside a chat template a
prompt is the user's message, and a choice the beginning of the answer. A prompt that is too long loses its
beginning.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.beginning import AUTO, opening_ids
from aftershock.lm.texts.frames import PLAIN, Frame, answer_ends, chat_frame, read_framed
from aftershock.lm.texts.tokens import Pair, cuts_at_spaces

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]


class Asked(Protocol):
    """The part of a task that an engine reads."""

    @property
    def name(self) -> str:
        """Of the task."""

    @property
    def kind(self) -> str:
        """One of choice, generate and perplexity."""

    @property
    def stop(self) -> Sequence[str]:
        """Texts that end a generated answer."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a generated answer at most."""

    @property
    def chat(self) -> bool:
        """True if prompts are put into the chat template, whatever the model's file says."""


@dataclass(frozen=True)
class Cut:
    """Tokens that fit a model, and how many were cut from their beginning."""

    pair: Pair
    truncated: int


class ItemReader:
    """Tokeniser of the texts of a task's items for one model."""

    def __init__(self, lm: LanguageModel, chat: bool) -> None:
        self.lm = lm
        self.frame: Frame = lm.frame if lm.prompt_format == "chat" or not chat else chat_frame(lm.tokenizer)

    @cached_property
    def ends(self) -> set[int]:
        """The tokens that end an answer."""
        return answer_ends(self.lm.model, self.lm.tokenizer, self.frame)

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """The ids before a text that nothing stands before: a document token, else the end-of-text token."""
        if self.lm.leading:
            return self.lm.leading
        first = self.lm.tokenizer.bos_token_id
        return opening_ids(self.lm.tokenizer, AUTO) if first is None else (first,)

    def framed(self, prompt: str, choice: str) -> tuple[str, str]:
        """Return a prompt as the model reads it and what follows it, with the spaces between them."""
        before = self.frame.before + prompt + self.frame.after
        after = choice if self.frame.joint is None else self.frame.joint + choice.removeprefix(" ")
        bare = before.rstrip()
        return bare, before[len(bare) :] + after

    def encode_pairs(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        """Return the tokens of each (prompt, choice); a choice may have none of its own."""
        distinct = list(dict.fromkeys(asked))
        pairs = self._read_plain(distinct) if self.frame == PLAIN else self._read_framed(distinct)
        read = dict(zip(distinct, pairs, strict=True))
        return [read[pair] for pair in asked]

    def _read_plain(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        texts = [self.framed(*pair) for pair in asked]
        begun = encode_each(self.lm.encode, [before for before, _ in texts if before])
        clean = cuts_at_spaces(self.lm)
        apart = [not before or clean and _is_clean_joint(before, behind) for before, behind in texts]
        alone = encode_each(
            self._encode_alone, [behind for (_, behind), cut in zip(texts, apart, strict=True) if cut]
        )
        whole = encode_each(
            self.lm.encode,
            [before + behind for (before, behind), cut in zip(texts, apart, strict=True) if not cut],
        )
        pairs = []
        for (before, behind), cut in zip(texts, apart, strict=True):
            first = begun[before] if before else self.opening
            target = alone[behind] if cut else whole[before + behind][len(first) :]
            pairs.append(Pair(first, target))
        return pairs

    def _read_framed(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        as_characters = self.lm.special_tokens == "characters"
        joined = replace(self.frame, joint=self.frame.joint or "")
        bare = replace(self.frame, after=self.frame.after.rstrip())
        whole = read_framed(self.lm.tokenizer, joined, list(asked), as_characters)
        begun = read_framed(self.lm.tokenizer, bare, [(prompt, None) for prompt, _ in asked], as_characters)
        return [
            Pair(tuple(first), tuple(ids[len(first) :]))
            for (first, _), (ids, _) in zip(begun, whole, strict=True)
        ]

    def encode_prompts(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the tokens of prompts that the model goes on from."""
        if self.frame == PLAIN:
            return [tuple(ids) or self.opening for ids in self.lm.encode(prompts)]
        as_characters = self.lm.special_tokens == "characters"
        read = read_framed(self.lm.tokenizer, self.frame, [(p, None) for p in prompts], as_characters)
        return [tuple(ids) for ids, _ in read]

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a whole text, without what stands in front of it."""
        return tuple(self._encode_alone([text])[0]) if text else ()

    def cut(self, pair: Pair) -> Cut:
        """Return a pair that fits the model's context; ValueError where its choice alone does not."""
        over = max(0, len(pair.prompt) + len(pair.target) - (self.lm.context + 1))
        if over >= len(pair.prompt):
            raise ValueError(
                f"a choice of {len(pair.target)} tokens does not fit the model's context of {self.lm.context}"
            )
        return Cut(Pair(pair.prompt[over:], pair.target), over)

    def windows(self, text: str) -> list[Pair]:
        """Return the parts of a text that the model reads one by one, each token being predicted once.

        A part after the first one follows as many of the tokens before it as there is room for, one at least.
        """
        ids, opening, context = self.encode_text(text), self.opening, self.lm.context
        return list(rolling_windows(ids, opening, context))

    def _encode_alone(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        return self.lm.tokenize(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]


def encode_each(encode: Encode, texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the tokens of each text, by the text."""
    distinct = list(dict.fromkeys(texts))
    return dict(zip(distinct, map(tuple, encode(distinct) if distinct else []), strict=True))


def rolling_windows(ids: Sequence[int], opening: Sequence[int], context: int) -> Iterator[Pair]:
    """Yield the windows of `context` tokens of a text that begins after the tokens `opening`.

    The first one predicts as many tokens as it can, every other one as many as there are new ones, after
    what it has room for of those before.
    """
    first = min(context + 1 - len(opening), len(ids))
    if first > 0:
        yield Pair(tuple(opening), tuple(ids[:first]))
    done = first
    while done < len(ids):
        end = min(done + context, len(ids))
        yield Pair(tuple(ids[max(0, end - context - 1) : done]), tuple(ids[done:end]))
        done = end


def _is_clean_joint(before: str, behind: str) -> bool:
    """True if exactly one space stands between the other characters of two texts."""
    return behind.startswith(" ") and bool(behind.strip()) and not behind[1].isspace()
