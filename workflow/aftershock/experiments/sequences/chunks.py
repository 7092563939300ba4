"""Chunks of an edit log: one safetensors file for the edits of an interval.

    turn.3.0.U, turn.3.0.V     the factors of turn 3, in order; nothing for a turn that failed
    whole.0.weight             all changes at the end of the chunk, where an edit changes whole matrices
    scored.0.weight            the same after regularisers that act on a copy, if there are any
    memory.keys.5              what the editor remembers at the end
    random.torch               states of random generators at the end

Beside the tensors stand, as JSON, the turns, the kinds of their changes and their telemetry.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from aftershock.editors.contract import Memory
from aftershock.experiments.sequences.plan import Turn
from aftershock.lm.edits import State
from aftershock.lm.edits.accumulate import bytes_of, is_increment
from aftershock.lm.edits.saved import pack, unpack
from aftershock.lm.files.tensors import open_tensors
from aftershock.output import whole_file

FORMAT = "aftershock edit log 1"


@dataclass
class Collected:
    """The turns since the last chunk, each by itself unless one of them changed a whole matrix."""

    turns: list[Turn] = field(default_factory=list)
    deltas: list[State] = field(default_factory=list)
    telemetry: list[dict[str, Any]] = field(default_factory=list)
    whole: bool = False
    bytes: int = 0

    def add(self, turn: Turn, delta: State, telemetry: Sequence[dict[str, Any]]) -> None:
        """Take one more turn; an empty `delta` is that of a turn which failed."""
        self.turns.append(turn)
        self.telemetry += telemetry
        self.whole = self.whole or not all(map(is_increment, delta))
        if self.whole:
            self.deltas, self.bytes = [], 0
        else:
            self.deltas.append(tuple(change.to(torch.device("cpu")) for change in delta))
            self.bytes += bytes_of(delta)

    def write(self, path: Path, state: State, scored: State, memory: Memory | None) -> None:
        """Write a chunk whose end is `state`."""
        parts = {"scored": scored} if scored is not state else {}
        if self.whole:
            parts["whole"] = state
        else:
            parts |= {
                f"turn.{turn.number}": delta for turn, delta in zip(self.turns, self.deltas, strict=True)
            }
        tensors: dict[str, Tensor] = {}
        kinds = {}
        for name, part in parts.items():
            packed, kinds[name] = pack(part)
            tensors |= {f"{name}.{key}": tensor for key, tensor in packed.items()}
        tensors |= {f"memory.{name}": tensor for name, tensor in (memory or {}).items()}
        tensors |= {f"random.{name}": tensor for name, tensor in random_state().items()}
        notes = {"kinds": kinds, "telemetry": self.telemetry, "remembers": memory is not None}
        with whole_file(path) as part_file:
            # a copy of each, since a file holds no two views of the same memory
            copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
            save_file(copies, part_file, {"format": FORMAT, "chunk": json.dumps(notes)})


@dataclass(frozen=True)
class Chunk:
    """A chunk that was written."""

    path: Path

    @cached_property
    def notes(self) -> dict[str, Any]:
        """The kinds of its changes, and its telemetry."""
        with open_tensors(self.path) as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"{self.path} is no chunk of an edit log of this version: {metadata.get('format')!r}"
            )
        return json.loads(metadata["chunk"])

    def state(self, name: str) -> State | None:
        """Return the changes called `name`: "turn.3", "whole" or "scored"; None where there are none."""
        if name not in self.notes["kinds"]:
            return None
        return unpack(self._tensors(name), self.notes["kinds"][name])

    def turns(self) -> Iterator[tuple[int, State]]:
        """Yield the number and the changes of each turn."""
        for name in self.notes["kinds"]:
            if name.startswith("turn."):
                yield int(name.removeprefix("turn.")), self.state(name) or ()

    @property
    def memory(self) -> Memory | None:
        """Return the editor's memory at the end."""
        return self._tensors("memory") if self.notes["remembers"] else None

    @property
    def random_state(self) -> dict[str, Tensor]:
        """The states of random generators at the end."""
        return self._tensors("random")

    def _tensors(self, name: str) -> dict[str, Tensor]:
        with open_tensors(self.path) as file:
            mine = [key for key in file.keys() if key.startswith(f"{name}.")]  # noqa: SIM118
            # copies: products of numbers that lie anywhere in a file may round otherwise
            return {key.removeprefix(f"{name}."): file.get_tensor(key).clone() for key in mine}


def random_state() -> dict[str, Tensor]:
    """Return the states of all global random generators."""
    version, words, spare = random.getstate()
    _, keys, place, has_gauss, gauss = np.random.get_state()
    found = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor([version, *words]),
        "python_spare": torch.tensor([] if spare is None else [spare], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_place": torch.tensor([place, has_gauss, gauss], dtype=torch.float64),
    }
    states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return found | {f"cuda.{i}": state for i, state in enumerate(states)}


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Set all global random generators to a state that `random_state` returned."""
    torch.set_rng_state(state["torch"])
    version, *words = state["python"].tolist()
    random.setstate((version, tuple(words), next(iter(state["python_spare"].tolist()), None)))
    place, has_gauss, gauss = state["numpy_place"].tolist()
    keys = state["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(place), int(has_gauss), gauss))
    for name, tensor in state.items():
        if name.startswith("cuda.") and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensor, int(name.removeprefix("cuda.")))
