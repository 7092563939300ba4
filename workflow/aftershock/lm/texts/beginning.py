"""The beginning of every text: of prompts, documents, and whatever else a model reads.

By default ("auto") that is what the tokenizer puts in front by itself, often nothing. Many models keep an
attention sink at the first position: whatever token stands there gets a residual stream a hundred times
longer than that of others, and little is known about a subject in it. A document token ("bos", "eos", or any
special token spelled out) takes the place of the tokenizer's own beginning, so that it is never there twice;
"none" leaves that out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

AUTO, NONE = "auto", "none"
NAMED = {"bos": "bos_token", "eos": "eos_token"}
LISTED = 8  # special tokens, in an error


def leading_ids(tokenizer: "PreTrainedTokenizerFast", document_token: str) -> tuple[int, ...]:
    """Return the ids in front of every text; ValueError names what a tokenizer has if not this token."""
    if document_token == AUTO:
        made = tokenizer("a", return_special_tokens_mask=True)
        return tuple(made["input_ids"][: made["special_tokens_mask"].index(0)])
    if document_token == NONE:
        return ()
    special = _special_tokens(tokenizer)
    token = getattr(tokenizer, NAMED[document_token]) if document_token in NAMED else document_token
    if token is not None and (token in special or document_token in NAMED):
        return (tokenizer.convert_tokens_to_ids(token),)
    raise ValueError(
        f"document_token: {document_token} names no special token of this tokenizer, which has "
        f"{_told(tokenizer, special)}; take one of these, or none, or auto"
    )


def opening_ids(tokenizer: "PreTrainedTokenizerFast", document_token: str) -> tuple[int, ...]:
    """Return the ids that a model starts a text of its own from: a document token, or the end-of-text token.

    ValueError where there is neither.
    """
    if document_token != AUTO and (front := leading_ids(tokenizer, document_token)):
        return front
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-text token to start texts from; give openings")
    return (tokenizer.eos_token_id,)


def _special_tokens(tokenizer: "PreTrainedTokenizerFast") -> list[str]:
    """The special tokens of a vocabulary, in the order of their ids."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    return [token.content for _, token in sorted(added.items()) if token.special]


def _told(tokenizer: "PreTrainedTokenizerFast", special: Sequence[str]) -> str:
    """List of the special tokens for an error, with the names that some have."""
    names: dict[str, list[str]] = {}
    for name, attribute in NAMED.items():
        if (token := getattr(tokenizer, attribute)) is not None:
            names.setdefault(token, []).append(name)
    shown = [*names, *(token for token in special if token not in names)]
    listed = [f"{token!r} ({', '.join(names[token])})" if token in names else repr(token) for token in shown]
    more = f" and {len(listed) - LISTED} others" if len(listed) > LISTED else ""
    return (", ".join(listed[:LISTED]) + more) or "none"
