"""The beginning of each model's texts, with a warning where a subject that opens one can hardly be edited."""

from collections.abc import Mapping
from typing import Any

SINK = 5.0
"""Times that the stream at a prompt's first token is longer than at later ones, from which on it is a sink.

Random models have 1.3. SmolLM2 has 180 with nothing in front of a text, 9 behind its `bos` or `eos`, and 1.5
behind the token that separated documents in its training; edits of one-token subjects fail but for the last.
"""


def sink_remark(found: Mapping[str, Any]) -> str | None:
    """Return a warning where a prompt's first token stands on an attention sink, else None."""
    ratio = found["first_token"]
    if ratio is None or ratio < SINK:
        return None
    remedy = "set prompt_format: plain and a document_token"
    if not found.get("template"):
        remedy = (
            "set document_token: bos in the model's file, or eos, or best the token that separated documents "
            "in its training, spelled out"
        )
    return (
        "the first position of a text is an attention sink: the residual stream at a prompt's first token is "
        f"{ratio:g} times as long as at later ones ({begins_with(found)}), so that a subject of one token "
        f"that opens a prompt can hardly be edited; {remedy}"
    )


def begins_with(found: Mapping[str, Any]) -> str:
    """Return a description of the tokens in front of every text."""
    first = " ".join(found["begins_with"]) or "nothing"
    return f"{first} in front, document_token: {found['document_token']}"


def told(found: Mapping[str, Any]) -> str:
    """Return a description of what texts begin with, in some sentences."""
    ratio, template = found["first_token"], found.get("template")
    text = f"What the model reads has {begins_with(found)}."
    if template:
        text = (
            f"Prompts stand in the tokenizer's chat template, {template!r} (prompt_format: chat). Documents "
            f"have {begins_with(found)}."
        )
    if ratio is None:
        return text
    return f"{text} The stream at a prompt's first token is up to {ratio:g} times as long as at later ones."
