"""The editing methods by name. Nothing here loads a tensor library: a method's module is imported late."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aftershock.editors.settings import (
    FtSettings,
    MemitSettings,
    MendSettings,
    MendTraining,
    RomeSettings,
    RRomeSettings,
    merge,
)

if TYPE_CHECKING:
    from aftershock.editors.contract import Editor

SECOND_EDITS = ("plain", "multi_label")
"""What follows the first edit of a round case: its way back, or all true objects at once."""


@dataclass(frozen=True)
class Method:
    """Where a method's code is, which settings it takes, what an edit costs (one of jobs/edits.py's KINDS),
    and what must be made before it can run.
    """

    module: str
    editor: str
    settings: type
    cost: str
    needs: tuple[str, ...] = ()

    def load(self) -> type["Editor"]:
        """The editor's class."""
        return getattr(import_module(self.module), self.editor)


EDITORS: dict[str, Method] = {
    "ft": Method("aftershock.editors.ft.edit", "Ft", FtSettings, "dense"),
    "memit": Method("aftershock.editors.memit.edit", "Memit", MemitSettings, "spread", needs=("moments",)),
    "mend": Method("aftershock.editors.mend.edit", "Mend", MendSettings, "gradient", needs=("mend",)),
    "r_rome": Method("aftershock.editors.rome.edit", "RRome", RRomeSettings, "value", needs=("moments",)),
    "rome": Method("aftershock.editors.rome.edit", "Rome", RomeSettings, "value", needs=("moments",)),
}


def method_of(name: str) -> Method:
    """The method called `name`; ValueError naming the known ones."""
    if name not in EDITORS:
        raise ValueError(f"unknown editor {name!r}; known editors: {', '.join(sorted(EDITORS))}")
    return EDITORS[name]


def mend_training(*layers: Mapping[str, Any]) -> MendTraining:
    """How a hypernetwork is trained: the defaults, overridden by each of `layers` in turn."""
    return merge(MendTraining, "mend", *layers)


def settings_of(name: str, *layers: Mapping[str, Any]) -> Any:
    """The settings of method `name`: its defaults, overridden by each of `layers` in turn."""
    return merge(method_of(name).settings, name, *layers)
