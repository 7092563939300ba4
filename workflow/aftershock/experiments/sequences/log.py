"""Edit logs: the changes of a sequence of edits in order, from which the model after each of them is remade.

A log is a folder with a chunk for each interval between checkpoints (`chunks`) and

    manifest.json    what the log belongs to, its chunks with their checksums, the checkpoints that are absent

Changes of low rank, of rows and of text are kept turn by turn, and any prefix of them can be replayed; where
edits change whole matrices or a codebook, a chunk keeps all changes at its end, so that only checkpoints can.
Replayed changes are bit-equal to those that the sequence went on from.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

# kinds of changes are known once their modules are imported
import aftershock.lm.edits.context
import aftershock.lm.edits.index
import aftershock.lm.edits.routed  # noqa: F401
from aftershock.editors.contract import Memory
from aftershock.experiments.sequences.chunks import FORMAT, Chunk
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.edits.accumulate import accumulate
from aftershock.lm.files.hashes import sha256_of
from aftershock.output import write_text
from aftershock.tables.sequences import SEQUENCE_TELEMETRY

MANIFEST = "manifest.json"
WEIGHTS = "weights_sha256"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Entry:
    """A chunk as the manifest lists it."""

    file: str
    sha256: str
    turns: list[int]  # their numbers
    ends: list[int]  # edits that the model has after each turn
    fresh: bool  # it starts from the unedited model
    whole: bool  # only its end can be replayed


@dataclass(frozen=True)
class Manifest:
    """All that a log says of itself."""

    identity: dict[str, Any]  # weights, method, settings, plan: another value, another log
    made_with: dict[str, Any]
    chunks: list[Entry] = field(default_factory=list)
    absent: dict[int, str] = field(default_factory=dict)  # checkpoints that were not reached, and why
    finished: bool = False

    def write(self, folder: Path) -> None:
        """Write the manifest of the log in `folder`, whole or not at all."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        write_text(folder / MANIFEST, json.dumps({"format": FORMAT, "sha256": digest, "log": text}))

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Return the manifest of the log in `folder`; ValueError where it is not as it was written."""
        path = folder / MANIFEST
        try:
            outer = json.loads(path.read_text(encoding="utf-8"))
            whole = hashlib.sha256(outer["log"].encode()).hexdigest() == outer["sha256"]
        except FileNotFoundError:
            raise ValueError(f"{folder} is no edit log: it has no {MANIFEST}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read: {error!r}; delete {folder} and run again") from error
        if not whole or outer.get("format") != FORMAT:
            raise ValueError(f"{path} is not as it was written; delete {folder} and run again")
        values = json.loads(outer["log"])
        chunks = [Entry(**entry) for entry in values.pop("chunks")]
        absent = {int(n): reason for n, reason in values.pop("absent").items()}
        return cls(**values, chunks=chunks, absent=absent)


class EditLog:
    """A log, to be read."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._sound: set[str] = set()

    @classmethod
    def open(cls, path: str | Path, weights_sha256: str) -> "EditLog":
        """Open a log of edits of the weights with this hash; ValueError where it is of others, or damaged."""
        manifest = Manifest.read(Path(path))
        known = manifest.identity.get(WEIGHTS)
        if known != weights_sha256:
            raise ValueError(
                f"{path} is a log of edits of other weights: their sha256 is {known}, that of these "
                f"{weights_sha256}; edit this model anew, or take the model that was edited"
            )
        return cls(Path(path), manifest)

    @property
    def absent(self) -> Mapping[int, str]:
        """Return the checkpoints that were not reached, and why."""
        return self.manifest.absent

    def reached(self, checkpoints: Iterable[int]) -> list[int]:
        """Return those of `checkpoints` that the sequence reached; the others are evaluated to no rows."""
        return [n for n in checkpoints if n not in self.absent]

    def state(self, n: int, device: torch.device = CPU) -> State:
        """Return all changes that `n` edits made, one delta for each weight, as a next edit starts from them.

        ValueError where the sequence did not get there, or the log keeps no such prefix.
        """
        if n == 0:
            return EMPTY
        last = self._place(n)
        first = last
        while not (self.manifest.chunks[first].whole or self.manifest.chunks[first].fresh):
            first -= 1
        state: State = EMPTY
        for place in range(first, last + 1):
            chunk = self._chunk(place)
            if (whole := chunk.state("whole")) is not None:
                state = tuple(change.to(device) for change in whole)
                continue
            entry = self.manifest.chunks[place]
            ends = dict(zip(entry.turns, entry.ends, strict=True))
            for number, delta in chunk.turns():
                if ends[number] <= n:
                    state = accumulate(state, tuple(change.to(device) for change in delta))
        return state

    def scored(self, n: int, device: torch.device = CPU) -> State:
        """Return the changes at checkpoint `n` as they are scored: after regularisers of a copy, if any."""
        if n and self.manifest.chunks[place := self._place(n)].ends[-1] == n:
            copy = self._chunk(place).state("scored")
            if copy is not None:
                return tuple(change.to(device) for change in copy)
        return self.state(n, device)

    def memory(self, n: int, device: torch.device = CPU) -> Memory | None:
        """Return what the editor remembers after `n` edits, the end of a chunk."""
        if n == 0:
            return None
        place = self._place(n)
        if self.manifest.chunks[place].ends[-1] != n:
            raise ValueError(
                f"{self.path} keeps the editor's memory at checkpoints only, not after {n} edits"
            )
        memory = self._chunk(place).memory
        return memory and {name: tensor.to(device) for name, tensor in memory.items()}

    def telemetry(self) -> pd.DataFrame:
        """Return SEQUENCE_TELEMETRY of all turns."""
        rows = [row for i in range(len(self.manifest.chunks)) for row in self._chunk(i).notes["telemetry"]]
        return pd.DataFrame(rows, columns=list(SEQUENCE_TELEMETRY.columns))

    def sound(self) -> int:
        """Return the number of chunks, from the first one on, that are as they were written."""
        for place in range(len(self.manifest.chunks)):
            try:
                self._chunk(place)
            except ValueError as error:
                logging.warning("%s", error)
                return place
        return len(self.manifest.chunks)

    def _place(self, n: int) -> int:
        """Return the chunk with a turn after which the model has `n` edits."""
        if n in self.absent:
            raise ValueError(f"{self.path}: checkpoint {n} was not reached: {self.absent[n]}")
        for place, entry in enumerate(self.manifest.chunks):
            if n in entry.ends:
                if entry.whole and n != entry.ends[-1]:
                    raise ValueError(
                        f"{self.path} cannot replay {n} edits: where edits change whole matrices it keeps "
                        f"checkpoints only, here {self._ends()}"
                    )
                return place
        raise ValueError(
            f"{self.path} has no state after {n} edits; its chunks end after {self._ends()} edits, and edits "
            "of one turn are made together"
        )

    def _ends(self) -> str:
        return ", ".join(str(entry.ends[-1]) for entry in self.manifest.chunks) or "none"

    def _chunk(self, place: int) -> Chunk:
        """Return a chunk, having checked it; ValueError says what remains of the log."""
        entry = self.manifest.chunks[place]
        path = self.path / entry.file
        if entry.file not in self._sound:
            if not path.is_file() or sha256_of(path) != entry.sha256:
                fault = "is not as it was written" if path.is_file() else "is missing"
                sound = self.manifest.chunks[place - 1].ends[-1] if place else 0
                raise ValueError(
                    f"{path} {fault}; the log is sound up to {sound} edits. Delete {self.path} and run again"
                )
            self._sound.add(entry.file)
        return Chunk(path)
