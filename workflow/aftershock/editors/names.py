"""Editors' names for readers: as papers write the methods, and distinct for distinct labels."""

from collections.abc import Mapping
from typing import Any

from aftershock.editors.methods import method_of


def display_names(editors: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return a name for the label of each of the configuration's `editors`.

    The name is the method's title, with +MLE behind it for multi-label second edits, and with the names of
    regularisers. Of labels that would share a name, the one that is the method's own keeps it, else the first
    one; the others carry their label in brackets.
    """
    titles = {label: _title(editor) for label, editor in editors.items()}
    owners: dict[str, str] = {}
    for label, title in titles.items():
        if title not in owners or label == editors[label]["method"]:
            owners[title] = label
    return {
        label: title if owners[title] == label else f"{title} ({label})" for label, title in titles.items()
    }


def _title(editor: Mapping[str, Any]) -> str:
    parts = [method_of(editor["method"]).method.title]
    if editor.get("second_edit", "plain") == "multi_label":
        parts.append("MLE")
    for entry in editor.get("regularisers", ()):
        parts += [name.replace("_", " ") if "_" in name else name.upper() for name in entry]
    return "+".join(parts)
