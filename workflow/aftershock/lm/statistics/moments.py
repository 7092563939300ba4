"""Second moments of the inputs of edited matrices: C = E[k k^T] over a text, not centred.

Editors weigh a change by how often the model uses a direction. The numbers hold for one model and one text:
both are named in the file by their hashes, and a file of another model or text is an error.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from aftershock.lm.files.hashes import sha256_of_weights as sha256_of_weights
from aftershock.lm.files.tensors import open_tensors
from aftershock.lm.hooks import batches, record_activations
from aftershock.lm.model import LanguageModel
from aftershock.output import whole_file
from aftershock.progress import Progress
from aftershock.tables.models import MOMENTS

BATCH_TOKENS = 4096
BLOCK_TOKENS = 8 * BATCH_TOKENS
"""Tokens whose documents are sorted by length together; sums are kept between blocks."""
ENCODED_DOCUMENTS = 256
KEEP_SECONDS = 120.0


@dataclass(frozen=True)
class Moment:
    """C of one layer's output projection, (d_in, d_in), and the number of tokens it is the mean of."""

    matrix: Tensor
    count: int


@dataclass
class Sums:
    """Sums over the documents read so far, and the position in them."""

    matrices: dict[int, Tensor] = field(default_factory=dict)  # sum of k k^T, (d_in, d_in) float64, by layer
    tokens: int = 0
    documents: int = 0  # with at least one token
    place: int = 0  # documents gone through

    def moments(self) -> dict[int, Moment]:
        """The means, float32, by layer."""
        return {
            layer: Moment((total / self.tokens).float(), self.tokens)
            for layer, total in self.matrices.items()
        }


Part = Literal["mlp", "attention"]
"""The part of a layer at whose output projection moments are taken."""


def second_moments(
    lm: LanguageModel, documents: Iterable[str], layers: Sequence[int], part: Part = "mlp"
) -> dict[int, Moment]:
    """C of all `layers` from one pass over `documents`, each cut to the model's context."""
    return add_up(lm, list(documents), layers, part=part).moments()


@torch.no_grad()
def add_up(
    lm: LanguageModel,
    documents: Sequence[str],
    layers: Sequence[int],
    vectors_per_dimension: int | None = None,
    sums: Sums | None = None,
    keep: Callable[[Sums], None] | None = None,
    keep_seconds: float = KEEP_SECONDS,
    progress: Progress | None = None,
    part: Part = "mlp",
) -> Sums:
    """The sums of k k^T of all `layers`, at the `part`'s output projection, from one pass up to the highest.

    Products of a batch are float32, their sum over batches float64. The pass ends with the documents, or with
    the one that brings the tokens to `vectors_per_dimension` times the largest d_in. It continues from `sums`
    where given, bit for bit as if it had never stopped, and hands what it has to `keep` every `keep_seconds`.
    ValueError when no document has a token.
    """
    sums = sums or Sums()
    projection = {"mlp": lm.projection, "attention": lm.attention_projection}[part]
    names = {layer: projection(layer) for layer in sorted(set(layers))}
    wanted = math.inf
    if vectors_per_dimension is not None:
        wanted = vectors_per_dimension * max(lm.weight(name).shape[1] for name in names.values())
    progress = progress or Progress()
    if wanted == math.inf:
        progress.begin("Second moments", len(documents), "document", sums.place)
    else:
        progress.begin("Second moments", wanted, "token", sums.tokens)
    kept = time.monotonic()
    for place, rows in _blocks(lm, documents, sums.place, wanted - sums.tokens):
        _add(lm, rows, names, sums.matrices)
        tokens = sum(map(len, rows))
        progress.step(place - sums.place if wanted == math.inf else tokens)
        sums.place, sums.tokens, sums.documents = place, sums.tokens + tokens, sums.documents + len(rows)
        if keep and time.monotonic() - kept >= keep_seconds:
            keep(sums)
            kept = time.monotonic()
    if sums.tokens < 2:
        found = "a single token" if sums.tokens else "no token: every document is empty"
        raise ValueError(
            f"second moments need text of many tokens, and this one has {found}; name another text in "
            "`moments` of the model's file"
        )
    return sums


def _blocks(
    lm: LanguageModel, documents: Sequence[str], start: int, wanted: float
) -> Iterator[tuple[int, list[list[int]]]]:
    """Tokens of documents from `start` on, some BLOCK_TOKENS at a time, and how many documents are done."""
    rows: list[list[int]] = []
    size = place = 0
    for first in range(start, len(documents), ENCODED_DOCUMENTS):
        if wanted <= 0:
            return
        some = documents[first : first + ENCODED_DOCUMENTS]
        for place, (text, ids) in enumerate(zip(some, lm.encode(some), strict=True), first + 1):
            if ids and text.strip():
                rows.append(ids[: lm.context])
                size += len(rows[-1])
            if size >= min(BLOCK_TOKENS, wanted):
                yield place, rows
                wanted -= size
                rows, size = [], 0
                if wanted <= 0:
                    return
    if rows:
        yield place, rows


def _add(
    lm: LanguageModel, rows: Sequence[Sequence[int]], names: Mapping[int, str], totals: dict[int, Tensor]
) -> None:
    """Add the k k^T of all tokens of `rows` to the totals of each layer."""
    rows = sorted(rows, key=len)
    last = names[max(names)]
    for chosen in batches([len(ids) for ids in rows], BATCH_TOKENS):
        ids, mask = lm.pad(rows[chosen.start : chosen.stop])
        with record_activations(lm, inputs=list(names.values()), stop=last) as seen:
            lm.run(ids, mask, use_cache=False)
        for layer, name in names.items():
            k = seen["in", name]
            k = k[mask.bool().to(k.device)].float()  # (tokens, d_in)
            if layer not in totals:
                totals[layer] = torch.zeros(k.shape[1], k.shape[1], dtype=torch.float64, device=k.device)
            totals[layer] += k.T @ k


# --- what was found ----------------------------------------------------------------------------------------
def equilibrate(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C with a diagonal of ones, (m, m), the factor of each row and column, (m,), and the neurons left, (d,).

    A neuron that never fired has no row. Of the others small ones count as much as large ones: rounding an
    entry of C is relative to the sizes of the two neurons it is of.
    """
    live = matrix.diagonal() > 0
    scale = matrix.diagonal()[live].rsqrt()
    return matrix[live][:, live] * scale[:, None] * scale, scale, live


def rank_of(values: Tensor) -> int:
    """The number of eigenvalues of a matrix that are larger than those of its rounding to float32."""
    return int((values > torch.finfo(torch.float32).eps * values.norm()).sum())


def describe(sums: Sums) -> pd.DataFrame:
    """MOMENTS rows: the size of the sample, and float64 eigenvalues of each layer's C as editors get it."""
    rows = []
    for layer, moment in sums.moments().items():
        matrix = moment.matrix.double()
        values = torch.linalg.eigvalsh(matrix)
        smallest, largest = values[0].item(), values[-1].item()
        condition = largest / smallest if smallest > 0 else math.inf
        rank = width = len(values)
        if rank_of(values) < width:  # neurons of very different sizes look so too
            rank = rank_of(torch.linalg.eigvalsh(equilibrate(matrix)[0]))
        rows.append((layer, width, sums.tokens, sums.documents, smallest, largest, condition, rank))
    return pd.DataFrame(rows, columns=list(MOMENTS.columns))


# --- files -------------------------------------------------------------------------------------------------
def save_moments(
    moments: Mapping[int, Moment],
    path: str | Path,
    weights_sha256: str,
    text_sha256: str,
    table: pd.DataFrame | None = None,
) -> None:
    """Write `moments`, whole or not at all, with the hashes of the model and the text they are of.

    With `table`, MOMENTS rows, the smallest eigenvalue and the condition number of each layer go along.
    """
    tensors, notes = {}, {"weights_sha256": weights_sha256, "text_sha256": text_sha256}
    for layer, moment in moments.items():
        tensors[f"moment.{layer}"] = moment.matrix.cpu().contiguous()
        tensors[f"count.{layer}"] = torch.tensor(moment.count)
    for row in () if table is None else table.itertuples(index=False):
        notes |= {f"condition.{row.layer}": repr(row.condition), f"smallest.{row.layer}": repr(row.smallest)}
    with whole_file(path) as part:
        save_file(tensors, part, metadata=notes)


def load_moments(
    path: str | Path,
    layers: Sequence[int] | None,
    weights_sha256: str,
    text_sha256: str | None = None,
    rule: str = "moments",
) -> dict[int, Moment]:
    """The moments of `layers`, None for all; ValueError when the file is of another model or lacks a layer.

    The text's hash is compared where it is given: an editor has no need of the text.
    """
    with open_tensors(path) as file:
        hashes = {"weights_sha256": weights_sha256, "text_sha256": text_sha256}
        check_hashes(path, file.metadata() or {}, hashes, rule)
        names = list(file.keys())
        stored = {int(key.removeprefix("moment.")) for key in names if key.startswith("moment.")}
        layers = sorted(stored) if layers is None else layers
        missing = sorted(set(layers) - stored)
        if missing:
            raise ValueError(
                f"{path} has no moments of layers {missing}; delete it and run again: rule {rule} makes it"
            )
        return {
            layer: Moment(file.get_tensor(f"moment.{layer}"), int(file.get_tensor(f"count.{layer}")))
            for layer in layers
        }


def read_hashes(path: str | Path) -> dict[str, str]:
    """Return the hashes of the model and the text that a file of moments is of."""
    with open_tensors(path) as file:
        return {name: file.metadata()[name] for name in ("weights_sha256", "text_sha256")}


def check_hashes(
    path: str | Path, found: Mapping[str, str], wanted: Mapping[str, str | None], rule: str
) -> None:
    """Raise ValueError when a file made by `rule` has other hashes than `wanted`; None is not compared."""
    for name, value in wanted.items():
        if value is not None and found.get(name) != value:
            raise ValueError(
                f"{path} is of another model or text ({name} {found.get(name)}, not {value}); delete it and "
                f"run again: rule {rule} makes it"
            )


def load_artifact(
    path: str | Path, lm: LanguageModel, layers: Sequence[int] | None, weights_sha256: str
) -> dict[int, Moment]:
    """Return the second moments of `layers`, None for all in the file; errors as `load_moments`."""
    return load_moments(path, layers, weights_sha256)


def load_attention_artifact(
    path: str | Path, lm: LanguageModel, layers: Sequence[int] | None, weights_sha256: str
) -> dict[int, Moment]:
    """Return the second moments of the attentions of `layers`; as `load_artifact`."""
    return load_moments(path, layers, weights_sha256, rule="attention_moments")


def save_sums(sums: Sums, path: str | Path, key: Mapping[str, str]) -> None:
    """Write `sums` atomically, with the key of their model and text."""
    tensors = {str(layer): total.cpu() for layer, total in sums.matrices.items()}
    place = {"tokens": sums.tokens, "documents": sums.documents, "place": sums.place}
    with whole_file(path) as part:
        save_file(tensors, part, metadata={"place": json.dumps(place), **key})


def load_sums(path: str | Path, key: Mapping[str, str], device: str | torch.device = "cpu") -> Sums | None:
    """The sums in a file; None when there is no file, or its key is another than `key`."""
    if not Path(path).is_file():
        return None
    with open_tensors(path, str(device)) as file:
        found = file.metadata()
        if {name: found.get(name) for name in key} != dict(key):
            return None
        matrices = {int(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Sums(dict(sorted(matrices.items())), **json.loads(found["place"]))
