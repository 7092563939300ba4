"""Writing edit logs: by one process at a time, chunk by chunk, going on after an interruption."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aftershock.editors.contract import Memory
from aftershock.experiments.sequences.chunks import Chunk, Collected, restore_random_state
from aftershock.experiments.sequences.log import MANIFEST, EditLog, Entry, Manifest
from aftershock.experiments.sequences.plan import Turn
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.files.hashes import sha256_of
from aftershock.lock import holding
from aftershock.process import check_parent

LOCK, UNFINISHED = ".lock", ".unfinished-"
CHUNK_BYTES = 256 * 2**20  # of changes that wait for the end of their chunk


class LogWriter:
    """A log that is being written, by one process at a time; see `writing`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._collected = Collected()

    @property
    def log(self) -> EditLog:
        """Return what has been written so far."""
        return EditLog(self.folder, self.manifest)

    @property
    def turns(self) -> int:
        """Return the number of the last turn that is in a chunk."""
        return self.manifest.chunks[-1].turns[-1] if self.manifest.chunks else 0

    def resume(self, device: torch.device) -> tuple[State, Memory | None]:
        """Return state and memory at the end of the last chunk; random generators are set as they were."""
        if not self.manifest.chunks:
            return EMPTY, None
        end = self.manifest.chunks[-1].ends[-1]
        restore_random_state(Chunk(self.folder / self.manifest.chunks[-1].file).random_state)
        if end in self.manifest.absent:
            return EMPTY, None  # it was a model of its own
        return self.log.state(end, device), self.log.memory(end, device)

    def add(self, turn: Turn, delta: State, telemetry: list[dict[str, Any]]) -> None:
        """Take a turn; an empty `delta` is that of one which failed."""
        self._collected.add(turn, delta, telemetry)

    @property
    def is_full(self) -> bool:
        """Return True if the turns since the last chunk should not wait for a checkpoint."""
        return self._collected.bytes > CHUNK_BYTES

    def close_chunk(
        self,
        state: State,
        scored: State,
        memory: Memory | None,
        absent: Mapping[int, str] | None = None,
        last: bool = False,
    ) -> None:
        """Write the turns since the last chunk, whose end is `state` with `memory`.

        absent: checkpoints that are not reached because of them, and why. last: no turn will follow. Both are
        noted with the chunk, all at once: a sequence that is killed after it must not go on behind its end.
        """
        turns = self._collected.turns
        path = self.folder / f"{turns[0].number:05d}-{turns[-1].number:05d}.safetensors"
        self._collected.write(path, state, scored, memory)
        numbers, ends = [t.number for t in turns], [t.positions[-1] for t in turns]
        entry = Entry(path.name, sha256_of(path), numbers, ends, turns[0].is_fresh, self._collected.whole)
        self.manifest = replace(
            self.manifest,
            chunks=[*self.manifest.chunks, entry],
            absent={**self.manifest.absent, **(absent or {})},
            finished=last,
        )
        self.manifest.write(self.folder)
        self._collected = Collected()


@contextmanager
def writing(folder: Path, identity: Mapping[str, Any], made_with: Mapping[str, Any]) -> Iterator[LogWriter]:
    """Context manager: the writer of the log in `folder`, which goes on behind the last sound chunk.

    ValueError names another process that writes it, or says in which respect the log is another one.
    """
    identity = json.loads(json.dumps(identity, default=str))
    with holding(folder / LOCK):
        manifest = _found(folder, identity)
        if manifest is None:
            manifest = Manifest(dict(identity), json.loads(json.dumps(made_with, default=str)))
        n = EditLog(folder, manifest).sound()
        if n < len(manifest.chunks):
            last = manifest.chunks[n - 1].ends[-1] if n else 0
            absent = {at: reason for at, reason in manifest.absent.items() if at <= last}
            manifest = replace(manifest, chunks=manifest.chunks[:n], absent=absent, finished=False)
        manifest.write(folder)
        _tidy(folder, manifest)
        yield LogWriter(folder, manifest)


def _tidy(folder: Path, manifest: Manifest) -> None:
    """Delete what a process that was killed has left in `folder`: files that no manifest lists."""
    own = {MANIFEST, LOCK, *(entry.file for entry in manifest.chunks)}
    for path in folder.iterdir():
        if path.name not in own and path.is_file():
            path.unlink()


def _found(folder: Path, identity: Mapping[str, Any]) -> Manifest | None:
    """Return the manifest that is there already; None where nothing sound is."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = Manifest.read(folder)
    except ValueError as error:
        logging.warning("%s: it is begun anew", error)
        return None
    other = [
        name
        for name in {**identity, **manifest.identity}
        if identity.get(name) != manifest.identity.get(name)
    ]
    if other:
        raise ValueError(
            f"{folder} is another log: {other[0]} is {manifest.identity.get(other[0])!r} there, and "
            f"{identity.get(other[0])!r} here; delete it, or write to another folder"
        )
    return manifest


def unfinished(target: str | Path, identity: Mapping[str, Any]) -> Path:
    """Return the folder beside `target` in which a log is written until it is whole.

    It outlives a job that fails, whose outputs Snakemake deletes; a log of another identity has another one.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    return Path(target).with_name(f"{UNFINISHED}{digest[:16]}")


def publish(folder: Path, target: str | Path) -> None:
    """Move a log from its `unfinished` folder to `target`; what others left beside it is deleted."""
    target = Path(target)
    check_parent()
    shutil.rmtree(target, ignore_errors=True)
    os.replace(folder, target)
    (target / LOCK).unlink(missing_ok=True)
    for other in target.parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(other, ignore_errors=True)
