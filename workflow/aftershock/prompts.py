"""Prompt templates: one `{}` where the subject goes. Labels are data and never parsed as templates."""

SLOT = "{}"
TEXT = "text"
"""In place of a relation: the subject is a whole prompt, asked as it stands."""
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


def shortened(text: str) -> str:
    """Return a text for an error: its beginning and end where it is long."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"
