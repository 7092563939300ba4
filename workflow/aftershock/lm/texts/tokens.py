"""Location of the tokens of prompt, target and subject in a text.

A target follows its prompt after one space, unless it begins with one or the prompt says otherwise (see
`prompts`), or a chat template stands around the prompt and says how an answer follows (see `frames`). Its
tokens are by default those that the tokenizer makes of the whole text (`target_ids` of a model is "text"):
what the model would read. They begin with the first token that reaches beyond the prompt's last character, or
its frame's, so that the joining space is the target's, and so is a token that holds the prompt's end and the
target's beginning. What stands in front of a text (see `beginning`) is the prompt's; what a tokenizer puts
behind is dropped. The released protocol ("released") tokenises the target alone and appends it, which is the
same wherever the tokenizer cuts at spaces.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from aftershock.lm.model import LanguageModel
from aftershock.prompts import fill, join, split

Spans = Sequence[tuple[int, int]]
"""The characters that each token covers, [first, last). A tokenizer may leave the space out of a word's."""


@dataclass(frozen=True)
class Located:
    """The tokens of a prompt, with `behind` more after it, and the index of its subject's last token."""

    ids: tuple[int, ...]
    subject: int
    behind: int = 0

    @property
    def prompt_end(self) -> int:
        """The index of the prompt's last token."""
        return len(self.ids) - self.behind - 1

    def then(self, more: Sequence[int]) -> "Located":
        """These tokens with `more` behind the prompt."""
        return Located((*self.ids, *more), self.subject, self.behind + len(more))


@dataclass(frozen=True)
class Pair:
    """The tokens of a prompt and of the target after it."""

    prompt: tuple[int, ...]
    target: tuple[int, ...]


def encode_pairs(lm: LanguageModel, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    """Return a Pair per (prompt, target); ValueError names texts with no tokens, or too many."""
    read = _read(lm, pairs)
    for (prompt, target), (pair, _) in read.items():
        if not pair.prompt:
            raise ValueError(f"prompt {prompt!r} has no tokens; a target needs something to follow")
        lm.check_length([*pair.prompt, *pair.target], join(prompt, target))
    return [read[pair][0] for pair in pairs]


def locate(
    lm: LanguageModel, asked: Sequence[tuple[str, str]], before: Sequence[str] | None = None
) -> list[Located]:
    """Return a Located per (template, subject), found by the characters that each token covers.

    `before` has a text that stands before each prompt.

    Equals the released rule (tokens before the subject plus tokens of the subject) where no token spans the
    subject's first character and the text before it, and needs no assumption where one does. ValueError
    names a subject without a token of its own, and a text that is too long for the model.
    """
    before = before or [""] * len(asked)
    prompts = [
        front + fill(template, subject) for front, (template, subject) in zip(before, asked, strict=True)
    ]
    encoded = _encode(lm, [(prompt, None) for prompt in prompts])
    found = []
    for front, (template, subject), prompt in zip(before, asked, prompts, strict=True):
        ids, spans = encoded[prompt, None]
        lm.check_length(ids, prompt)
        offset = len(lm.frame.before) + len(front)
        found.append(Located(ids, _subject(template, subject, spans, offset)))
    return found


def locate_pairs(
    lm: LanguageModel, asked: Sequence[tuple[str, str, str]], before: Sequence[str] | None = None
) -> list[tuple[Located, tuple[int, ...]]]:
    """The prompt, located, and the target's tokens of each (template, subject, target).

    `before` has a text that stands before each prompt.

    ValueError as for `locate` and `encode_pairs`, and where the subject's last token is already the target's.
    """
    before = before or [""] * len(asked)
    pairs = [
        (front + fill(template, subject), target)
        for front, (template, subject, target) in zip(before, asked, strict=True)
    ]
    read = _read(lm, pairs)
    found = []
    for front, (template, subject, _), key in zip(before, asked, pairs, strict=True):
        pair, spans = read[key]
        lm.check_length([*pair.prompt, *pair.target], join(*key))
        at = _subject(template, subject, spans, len(lm.frame.before) + len(front))
        if at >= len(pair.prompt):
            raise ValueError(
                f"the last token of subject {subject!r} in {join(*key)!r} is also the first of "
                "its target; put a word after the subject, or set target_ids: released"
            )
        found.append((Located(pair.prompt, at), pair.target))
    return found


def _read(lm: LanguageModel, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[Pair, Spans]]:
    """Each pair's tokens, and the characters that the tokens cover, at least those of the prompt."""
    pairs = list(dict.fromkeys(pairs))
    if lm.target_ids == "released":
        return _joined(lm, pairs)
    apart = [pair for pair in pairs if _has_clean_joint(lm, *pair)] if cuts_at_spaces(lm) else []
    found = _joined(lm, apart)
    rest = [pair for pair in pairs if pair not in found]
    read = _encode(lm, rest)
    for prompt, target in rest:
        text, covered = lm.frame.whole(prompt, target), len(lm.frame.put(prompt))
        ids, spans = read[prompt, target]
        own = range(len(text) - len(target.lstrip()), len(text.rstrip()))  # its characters without spaces
        if not any(first < last and last > own.start and first < own.stop for first, last in reversed(spans)):
            raise ValueError(f"target {target!r} has no tokens; a target needs at least one")
        start = next(i for i, (_, last) in enumerate(spans) if last > covered)
        found[prompt, target] = Pair(ids[:start], ids[start:]), spans
    return found


def _joined(lm: LanguageModel, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[Pair, Spans]]:
    """Each pair's tokens where prompt and target are tokenised alone."""
    read = _encode(lm, [(prompt, None) for prompt, _ in pairs])
    targets = list(dict.fromkeys(lm.frame.follow(*pair) for pair in pairs))
    alone = dict(zip(targets, map(tuple, lm.encode_alone(targets)), strict=True))
    return {
        (p, t): (Pair(read[p, None][0], alone[lm.frame.follow(p, t)]), read[p, None][1]) for p, t in pairs
    }


def cuts_at_spaces(lm: LanguageModel) -> bool:
    """True if one space between two other characters always begins a word, so that parts can be read alone.

    So it is by GPT-2's rule for words, none of which holds a space after its first character. Other rules may
    do the same, but theirs are not known here. Reading parts alone is several times faster, because prompts
    and targets are far fewer than their pairs.
    """
    backend = lm.tokenizer.backend_tokenizer
    rule, normal = (
        json.loads(part.__getstate__()) if part else {}
        for part in (backend.pre_tokenizer, backend.normalizer)
    )
    added = backend.get_added_tokens_decoder().values()
    return (
        (rule.get("type"), rule.get("use_regex", True)) == ("ByteLevel", True)
        and normal.get("type", "NFC") == "NFC"  # a space takes part in no composition
        and not any(token.rstrip or _ends_beyond_a_space(token.content) for token in added)
    )


def _ends_beyond_a_space(token: str) -> bool:
    """True if a token other than a run of spaces could span the space between prompt and target."""
    return not token.isspace() and any(character.isspace() for character in token[1:])


def _has_clean_joint(lm: LanguageModel, prompt: str, target: str) -> bool:
    """True if exactly one space stands between the other characters of a prompt and a target."""
    before, behind = lm.frame.put(prompt), lm.frame.follow(prompt, target)
    if not before or not target.strip() or not behind.startswith(" "):
        return False
    return not before[-1].isspace() and not behind[1].isspace()


def _encode(
    lm: LanguageModel, pairs: Sequence[tuple[str, str | None]]
) -> dict[tuple[str, str | None], tuple[tuple[int, ...], Spans]]:
    """The tokens of each prompt, with its target unless that is None, and what they cover."""
    pairs = list(dict.fromkeys(pairs))
    return {
        pair: (tuple(ids), spans) for pair, (ids, spans) in zip(pairs, lm.read_prompts(pairs), strict=True)
    }


def _subject(template: str, subject: str, spans: Spans, offset: int) -> int:
    """Index of the last token that covers a character of the subject, `offset` characters into the text."""
    start = offset + len(split(template)[0])
    end = start + len(subject.rstrip())
    for i in reversed(range(len(spans))):
        first, last = spans[i]
        if first < last and first < end and last > start:
            return i
    raise ValueError(f"subject {subject!r} has no token in {fill(template, subject)!r}")
