"""Prompt templates: one `{}` where the subject goes. Labels are data and never parsed as templates.

Example sentences may stand before the sentence with the slot: "The capital of Texas is Austin. The capital of
{} is".

A target follows its prompt after one space. Chinese, Japanese and Thai have none between words: in a sheet
such a template says where its target stands, as in `{}の首都は{target}`. Elsewhere its last character is
JOINT, which marks that nothing stands between prompt and target, and which no model is given.
"""

import re

SLOT = "{}"
TEXT = "text"
"""Stands for a relation whose subject is a whole prompt, scored as it is."""
TARGET_SLOT = "{target}"
JOINT = "\u2060"  # Unicode's word joiner: no break and no space
SENTENCE_END = re.compile(r"[.!?]\s+")
SHOWN = 120  # characters of a text in an error


def fill(template: str, subject: str) -> str:
    """Put `subject` into the template's only slot, whatever characters it holds."""
    before, after = split(template)
    return before + subject + after


def split(template: str) -> tuple[str, str]:
    """The text before and after the slot; ValueError unless there is exactly one."""
    parts = template.split(SLOT)
    if len(parts) != 2:
        raise ValueError(f"template {template!r} has {len(parts) - 1} slots '{{}}'; it needs exactly one")
    return parts[0], parts[1]


def names_in_examples(template: str, subject: str) -> bool:
    """Return True where a sentence before the one with the slot holds `subject` as words of its own."""
    examples = SENTENCE_END.split(split(template)[0])[:-1]
    whole = re.compile(rf"(?<!\w){re.escape(subject)}(?!\w)")
    return any(whole.search(sentence) for sentence in examples)


def shortened(text: str) -> str:
    """Return a text for an error: its beginning and end where it is long."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"


def read_template(text: str) -> str:
    """Return the template that a cell of a sheet stands for: without its target's slot, if it has one."""
    if not text.endswith(TARGET_SLOT):
        return text
    before = text.removesuffix(TARGET_SLOT)
    return before.rstrip(" ") if before.endswith(" ") else before + JOINT


def bare(prompt: str) -> str:
    """Return a prompt as a model reads it: without the sign that its target follows at once."""
    return prompt.removesuffix(JOINT)


def following(prompt: str, target: str) -> str:
    """Return a target as it follows a prompt: after one space, unless it has one or joins the prompt."""
    return target if prompt.endswith(JOINT) or target.startswith(" ") else f" {target}"


def join(prompt: str, target: str) -> str:
    """Return a prompt with its target as one text."""
    return bare(prompt) + following(prompt, target)
