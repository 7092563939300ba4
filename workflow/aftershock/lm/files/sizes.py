"""Sizes of a model as its own files have them: config.json, the headers of safetensors and GGUF files.

Nothing here loads torch or transformers, so that a run can be planned from them.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from aftershock.lm.families import family_of, list_families
from aftershock.lm.files.folders import DEPTHS, NESTED, read_object, tensor_names

WIDTHS = ("hidden_size", "n_embd", "d_model")  # keys of config.json, by architecture
INNERS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
HEADS = ("num_attention_heads", "n_head")
HEAD_MATRICES = ("lm_head.weight", "embed_out.weight", "output.weight")
"""Names of the matrix that predicts tokens, where it is not the embedding."""


def sizes_of_source(source: Mapping[str, str], copied: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return a file that describes a model, and the `model_type`, `n_layers` and `shape` that it says.

    `source` is that of the model's YAML. Only a folder or GGUF file on disk can be read before a run;
    `copied` is the folder of weights that a run wrote, which stands for either once that is gone.
    """
    if {"hub", "package"} & set(source):
        return None, {}
    gguf = Path(source.get("gguf", ""))
    if gguf.is_file():
        return gguf, sizes_of_gguf(gguf)
    for folder in (Path(source.get("path", copied)), copied):
        file = folder / "config.json"
        if file.is_file():
            config = read_object(file)  # what is wrong with it is said elsewhere
            return (file, sizes_of_config(config, tensor_names(folder))) if config else (None, {})
    return None, {}


def sizes_of_config(config: Mapping[str, Any], names: Iterable[str] = ()) -> dict[str, Any]:
    """Return `model_type`, `n_layers` and `shape` as far as a config.json has them, as text and numbers.

    names: of the model's tensors, which tell what a configuration leaves to its class.
    """
    nested: Mapping[str, Any] = next((config[key] for key in NESTED if isinstance(config.get(key), dict)), {})
    config = {**config, **nested}
    named = config.get("model_type")
    model_type = named if isinstance(named, str) else None
    width, heads = _first(config, WIDTHS), _first(config, HEADS)
    known_family = family_of(model_type) if model_type in list_families() else None
    gated = known_family is not None and known_family.gated
    usual = "n_embd" in config or (known_family is not None and not gated)  # as GPT-2 and Falcon have it
    inner = _first(config, INNERS) or (4 * width if width and usual else None)
    known = {"width": width, "inner": inner, "vocabulary": _first(config, ("vocab_size",))}
    tied = config.get("tie_word_embeddings")
    if tied is None:
        tied = not set(HEAD_MATRICES) & set(names)
    key_value = None
    if width and heads:
        pairs = _first(config, ("num_key_value_heads",)) or heads
        key_value = pairs * (_first(config, ("head_dim",)) or width // heads)
    return _found(model_type, _first(config, DEPTHS), known, key_value, gated, tied is True)


def _found(
    model_type: str | None,
    n_layers: int | None,
    known: Mapping[str, int | None],
    key_value: int | None,
    gated: bool,
    tied: bool,
) -> dict[str, Any]:
    """Return the entries of a model's file, without those that are not known or at their default."""
    shape: dict[str, Any] = {}
    if n_layers and all(known.values()):
        shape = dict(known)
        shape |= {"key_value": key_value} if key_value not in (None, known["width"]) else {}
        shape |= {name: True for name, value in {"gated": gated, "tied": tied}.items() if value}
    found = {"model_type": model_type, "n_layers": n_layers, "shape": shape}
    return {name: value for name, value in found.items() if value}


def _first(config: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    """Return the first of the entries that is a positive whole number."""
    values = (config.get(key) for key in keys)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)


# --- GGUF ---------------------------------------------------------------------------------------------------

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAGIC = b"GGUF"


@dataclass
class GgufHeader:
    """The metadata of a GGUF file, lists by their length alone, and the shape of each tensor."""

    metadata: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The architecture, as llama.cpp calls it."""
        return str(self.metadata.get("general.architecture"))

    @property
    def family(self) -> str | None:
        """The family of this project that the architecture belongs to, if any."""
        known = set(list_families())
        return next(
            (name for name in (self.architecture, f"{self.architecture}_text") if name in known), None
        )


def sizes_of_gguf(path: Path) -> dict[str, Any]:
    """Return `model_type`, `n_layers` and `shape` as far as a GGUF file has them; nothing of a broken one."""
    header = _header_of(path)
    if header is None:
        return {}
    prefix, tensors = f"{header.architecture}.", header.tensors
    own = {
        name.removeprefix(prefix): value
        for name, value in header.metadata.items()
        if isinstance(value, int) and name.startswith(prefix)
    }
    width, heads = own.get("embedding_length"), own.get("attention.head_count")
    into = tensors.get("blk.0.ffn_up.weight", (0, 0))[1]
    inner = own.get("feed_forward_length") or into
    key_value = None
    if width and heads:
        pairs = own.get("attention.head_count_kv") or heads
        key_value = pairs * (own.get("attention.key_length") or width // heads)
    return _found(
        header.family,
        own.get("block_count"),
        {
            "width": width,
            "inner": inner,
            "vocabulary": tensors.get("token_embd.weight", (0, own.get("vocab_size")))[1],
        },
        key_value,
        gated="blk.0.ffn_gate.weight" in tensors or into == 2 * inner,
        tied="output.weight" not in tensors,
    )


def fault_of_gguf(path: Path) -> str | None:
    """Return why a GGUF file's model cannot be edited, as far as its header tells; None where it can."""
    header = _header_of(path)
    if header is None:
        return "is no whole GGUF file: fetch it again"
    if header.family is None:
        return (
            f"has the architecture {header.architecture!r}, of which no family is known (known: "
            f"{', '.join(list_families())}); take a model of one of these"
        )
    return None


def _header_of(path: Path) -> GgufHeader | None:
    """Return the header of a GGUF file; None where it is none, or cut short."""
    stat = path.stat()
    return _read_once(path, stat.st_size, stat.st_mtime_ns)


@cache
def _read_once(path: Path, size: int, changed: int) -> GgufHeader | None:
    """`_header_of` of a file of this size and date, cached."""
    try:
        with open(path, "rb") as file:
            return read_header(file)
    except (struct.error, ValueError, KeyError, MemoryError, OverflowError):
        return None


def read_header(file: BinaryIO) -> GgufHeader:
    """Return the header of a GGUF file; ValueError or struct.error where it is none."""
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("no GGUF file")
    _, n_tensors, n_entries = _read(file, "<IQQ")
    header = GgufHeader()
    for _ in range(n_entries):
        name = _string(file)
        (kind,) = _read(file, "<I")
        header.metadata[name] = _value(file, kind)
    for _ in range(n_tensors):
        name = _string(file)
        (n_dimensions,) = _read(file, "<I")
        header.tensors[name] = tuple(_read(file, f"<{n_dimensions}Q"))
        _read(file, "<IQ")  # its type, and where it lies
    return header


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind != ARRAY:
        return _read(file, f"<{NUMBERS[kind]}")[0]
    kind, length = _read(file, "<IQ")
    if kind in (STRING, ARRAY):
        for _ in range(length):
            _value(file, kind)
    else:
        file.seek(length * struct.calcsize(f"<{NUMBERS[kind]}"), 1)
    return range(length)


def _string(file: BinaryIO) -> str:
    (length,) = _read(file, "<Q")
    content = file.read(length)
    if len(content) != length:
        raise ValueError("cut short")
    return content.decode("utf-8", errors="replace")


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
