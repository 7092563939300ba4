"""Names of probes, states and rules on the page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """Display group of a probe, and its description."""

    group: str
    words: str


OLD, NEW, TIED, OBJECTS, CONTROLS, OTHERS = GROUPS = (
    "Old fact",
    "New fact",
    "Tied fact",
    "Objects",
    "Controls",
    "Other probes",
)
ROLES = {
    "old": Role(OLD, "written by the first edit"),
    "e1_true": Role(OLD, "true before; the first edit replaces it"),
    "new_exp": Role(NEW, "explicit: written by the second edit"),
    "new_imp": Role(NEW, "implicit: what follows from the second edit for the first one's relation"),
    "e2_true": Role(NEW, "what the second edit replaces"),
    "tied": Role(TIED, "neither edit touches it"),
    "target": Role(OBJECTS, "edited in and out again"),
    "original": Role(OBJECTS, "true; replaced, then edited back"),
    "object": Role(OBJECTS, "true; no edit touches it"),
    "in_context": Role(NEW, "what the second edit replaces, asked after the facts that it follows from"),
    "control_same": Role(CONTROLS, "another fact of the tied fact's subject"),
    "control_unrelated": Role(CONTROLS, "the tied fact of an unrelated case"),
    "control_object": Role(CONTROLS, "a true object of another subject and relation"),
    "neighbour": Role(CONTROLS, "the same relation of another subject"),
    "neighbour_new": Role(CONTROLS, "what the second edit writes, for a neighbour"),
    "locality_text": Role(CONTROLS, "a text of a file that is about something else"),
    "same_subject": Role(CONTROLS, "another fact of the edited subject"),
}

STATES = {
    "0": ("before", "The unedited model."),
    "1": ("after the first", "After the first edit."),
    "2": ("after both", "After the first and the second edit."),
    "e2_only": ("second alone", "After the second edit alone, made in the unedited model."),
    "control": ("control", "After the first edit and a second one that is borrowed from another case."),
    "random": (
        "random",
        "After a random change of the weights as large as both edits, or behind as many unrelated statements "
        "where a method puts facts before prompts.",
    ),
}
"""Short words and a definition for each state of a model."""

EDITS = {
    "e1": "First edit",
    "e2": "Second edit",
    "control": "Control: a second edit borrowed from another case",
    "multi": "Second edit of methods that write all true objects at once",
    "related": "Related fact",
}


def role(name: str) -> Role:
    """The role called `name`; one that is not listed stands in a group of its own."""
    return ROLES.get(name, Role(OTHERS, name.replace("_", " ")))


def rule_words(rule: str, labels: Mapping[str, str]) -> str:
    """A logic rule with the labels of its relations, and in notation, such as P22>P40."""
    relations = [labels.get(part, part) for part in re.split("[&>@]", rule) if part != "1-N"]
    if "@" in rule:
        return f"{relations[0]}, several objects ({rule})"
    if ">" not in rule:
        return f"{relations[0]} ({rule})"
    return f"{' and '.join(relations[:-1])} → {relations[-1]} ({rule})"
