"""Storage of deltas as named tensors in safetensors files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from aftershock.lm.edits.delta import KINDS
from aftershock.lm.edits.state import State
from aftershock.lm.files.tensors import open_tensors
from aftershock.output import whole_file

FORMAT = "aftershock deltas 1"


def pack(deltas: State) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The tensors of `deltas`, named "0.U", "0.V", "1.weight", ..., and each delta's kind and settings."""
    tensors = {
        f"{i}.{name}": tensor for i, delta in enumerate(deltas) for name, tensor in delta.tensors().items()
    }
    kinds = [{"kind": type(delta).__name__, "settings": delta.settings()} for delta in deltas]
    return tensors, kinds


def unpack(tensors: Mapping[str, Tensor], kinds: list[dict[str, Any]]) -> State:
    """The deltas that `pack` turned into tensors."""
    deltas = []
    for i, entry in enumerate(kinds):
        if (kind := KINDS.get(entry["kind"])) is None:
            raise ValueError(
                f"unknown kind of delta {entry['kind']!r}; known: {', '.join(sorted(KINDS))} (a method's own "
                "kind is known once its editor has been imported)"
            )
        mine = {name.partition(".")[2]: t for name, t in tensors.items() if name.startswith(f"{i}.")}
        deltas.append(kind.from_tensors(mine, entry["settings"]))
    return tuple(deltas)


def save_deltas(deltas: State, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write `deltas` to one file atomically; `metadata` is added to the file's own."""
    tensors, kinds = pack(deltas)
    notes = {**(metadata or {}), "format": FORMAT, "deltas": json.dumps(kinds)}
    with whole_file(path) as part:
        # a copy of each, since a file holds no two views of the same memory
        save_file({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, part, notes)


def load_deltas(path: str | Path) -> tuple[State, dict[str, str]]:
    """The deltas of a file, on the CPU, and its metadata; ValueError for a file of anything else."""
    with open_tensors(path) as file:
        notes = file.metadata() or {}
        if notes.get("format") != FORMAT:
            raise ValueError(f"{path} holds no deltas: its format is {notes.get('format')!r}, not {FORMAT!r}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return unpack(tensors, json.loads(notes["deltas"])), notes
