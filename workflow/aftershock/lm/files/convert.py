"""Conversion of `torch.save` weights to safetensors. Only plain tensors are read: no code is run."""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from aftershock.lm.files.folders import INDEX, SINGLE

SHARD_BYTES = 5_000_000_000


def convert(files: Sequence[Path], into: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the tensors of `files` (pytorch_model*.bin) to the folder `into`, with their names and types.

    One file model.safetensors, or several of at most `shard_bytes` (a larger tensor has one of its own) with
    an index. Tensors that share memory, as a head tied to the embeddings does, are each written in full: the
    model ties them again when it is loaded. No more than one shard is held in memory, unless a file has
    torch's format from before 1.6, which cannot be mapped. ValueError names a file that holds anything else.
    """
    parts: list[tuple[Path, list[str]]] = []
    total = 0
    seen: set[str] = set()
    for shard in _shards(files, shard_bytes):
        if repeated := sorted(seen & set(shard)):
            raise ValueError(f"{', '.join(p.name for p in files)}: {repeated[0]} is there more than once")
        seen |= set(shard)
        total += sum(tensor.nbytes for tensor in shard.values())
        part = into / f"part-{len(parts):05d}"
        save_file(shard, part, metadata={"format": "pt"})  # transformers asks for the format
        parts.append((part, list(shard)))
    if len(parts) == 1:
        parts[0][0].rename(into / SINGLE)
        return
    where: dict[str, str] = {}
    for number, (part, names) in enumerate(parts, 1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        part.rename(into / file)
        where |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (into / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _shards(files: Sequence[Path], shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    """The tensors of all files in groups of at most `shard_bytes`, none sharing memory with another."""
    shard: dict[str, Tensor] = {}
    size = 0
    for file in files:
        for name, tensor in _read(file).items():
            if shard and size + tensor.nbytes > shard_bytes:
                yield shard
                shard, size = {}, 0
            shard[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
            size += tensor.nbytes
    if shard:
        yield shard


def _read(file: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:
        said = str(error).strip().partition("\n")[0][:200]
        raise ValueError(
            f"{file.name} cannot be read as plain tensors ({type(error).__name__}: {said}); what else it "
            "holds could run code, so it is not loaded: choose a revision or a folder with safetensors"
        ) from error
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{file.name} holds no tensors by name, so it is no model's weights")
    return state
