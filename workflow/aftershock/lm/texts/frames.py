"""The text around a prompt: none, or the chat template of the model's tokenizer.

With `prompt_format: chat` a prompt is the user's message, and its target the beginning of the answer. The
template is rendered once around a stand-in for the message: labels are data, which no template computes with.
It is asked for an answer without thoughts where it knows of such, and always on the same DATE, so that
results do not depend on the day. What a template puts in front of a conversation is what a prompt begins
with: the model's `document_token` is left to documents.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from aftershock.lm.files.folders import NO_CHAT_TEMPLATE
from aftershock.prompts import bare, following

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Read = tuple[list[int], list[tuple[int, int]]]
MESSAGE, ANSWER = "Aftershock'smessage", "Aftershock'sanswer"  # stand-ins, which no template holds itself
DATE = "26 Jul 2024"  # which Llama 3.1's template takes where it cannot ask
ON_ONE_DATE = f"{{% macro strftime_now(form) %}}{DATE}{{% endmacro %}}"
"""Put before a template, it fixes the date that the template asks for."""


@dataclass(frozen=True)
class Frame:
    """The text around every prompt, between it and its target, and after that."""

    before: str = ""
    after: str = ""
    joint: str | None = None  # between `after` and the target; None for the prompt's own way
    end: str = ""  # behind an answer

    def put(self, prompt: str) -> str:
        """Return a prompt as a model reads it."""
        return self.before + bare(prompt) + self.after

    def follow(self, prompt: str, target: str) -> str:
        """Return a target as it follows its prompt."""
        return following(prompt, target) if self.joint is None else self.joint + target.removeprefix(" ")

    def whole(self, prompt: str, target: str | None) -> str:
        """Return a prompt as a model reads it, with its target unless that is None."""
        return self.put(prompt) + ("" if target is None else self.follow(prompt, target))


PLAIN = Frame()


def chat_frame(tokenizer: "PreTrainedTokenizerFast") -> Frame:
    """Return the frame that a tokenizer's chat template makes; ValueError where there is none to be had."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(NO_CHAT_TEMPLATE)
    user, assistant = ({"role": r, "content": c} for r, c in (("user", MESSAGE), ("assistant", ANSWER)))
    asked, answered = _render(tokenizer, [user], True), _render(tokenizer, [user, assistant], False)
    if asked.count(MESSAGE) != 1:
        raise ValueError(
            "prompt_format: chat: the chat template does not hold the user's message as it stands"
        )
    before, after = asked.split(MESSAGE)
    opened, _, end = answered.partition(ANSWER)
    joint = opened.removeprefix(asked) if opened.startswith(asked) else ""
    return Frame(before, after, joint if joint.isspace() else "", end)


def _render(tokenizer: "PreTrainedTokenizerFast", messages: list[dict[str, str]], asked: bool) -> str:
    """The text of a conversation, with the beginning of an answer where one is asked for."""
    try:
        return tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=asked,
            enable_thinking=False,
            chat_template=ON_ONE_DATE + tokenizer.get_chat_template(),
            date_string=DATE,
        )
    except TemplateError as error:
        raise ValueError(f"prompt_format: chat: the chat template fails: {error}") from error


def answer_ends(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", frame: Frame = PLAIN
) -> set[int]:
    """Return the tokens that end an answer: chat models have others beside the tokenizer's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    special = _special(tokenizer)
    if special and (closing := special.match(frame.end.lstrip())):
        several = [*several, tokenizer.convert_tokens_to_ids(closing[0])]
    return {token for token in (*several, tokenizer.eos_token_id) if token is not None}


def read_framed(
    tokenizer: "PreTrainedTokenizerFast",
    frame: Frame,
    pairs: Sequence[tuple[str, str | None]],
    as_characters: bool,
) -> list[Read]:
    """Return the ids of each prompt in its frame, with its target, and the characters that each covers.

    The special tokens of the frame are tokens; those that a prompt or target spells are not, `as_characters`.
    """
    special = _special(tokenizer) if as_characters else None
    found: dict[tuple[str, str | None], Read] = {}
    if special:
        for prompt, target in {p for p in pairs if any(special.search(part) for part in p if part)}:
            marks = [mark.span() for mark in special.finditer(frame.before)]
            start = len(frame.before) + len(bare(prompt))
            marks += [(start + mark.start(), start + mark.end()) for mark in special.finditer(frame.after)]
            found[prompt, target] = _read_between(tokenizer, frame.whole(prompt, target), marks)
    whole = list(dict.fromkeys(pair for pair in pairs if pair not in found))
    read = _tokens(tokenizer, [frame.whole(*pair) for pair in whole])
    found |= dict(zip(whole, read, strict=True))
    return [found[pair] for pair in pairs]


def _read_between(tokenizer: "PreTrainedTokenizerFast", text: str, marks: Sequence[tuple[int, int]]) -> Read:
    """A text whose special tokens are those at `marks`, read from one to the next.

    A tokenizer that treats the beginning of a text differently does so behind each of them.
    """
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    place = 0
    for first, last in [*marks, (len(text), len(text))]:
        ((more, covered),) = _tokens(tokenizer, [text[place:first]], split_special_tokens=True)
        ids += more
        spans += [(place + start, place + end) for start, end in covered]
        if first < last:
            ids.append(tokenizer.convert_tokens_to_ids(text[first:last]))
            spans.append((first, last))
        place = last
    return ids, spans


def _tokens(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], **options: bool) -> list[Read]:
    """Ids and spans of texts, with nothing around them."""
    if not texts:
        return []
    wanted = {"add_special_tokens": False, "return_offsets_mapping": True, "return_attention_mask": False}
    made = tokenizer(list(texts), **wanted, **options)
    return list(zip(made["input_ids"], made["offset_mapping"], strict=True))


def _special(tokenizer: "PreTrainedTokenizerFast") -> re.Pattern[str] | None:
    """A pattern that finds special tokens in a text, the longest first; None without any."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    tokens = sorted((token.content for token in added if token.special), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None
