"""Sample size of second moments: documents are read until whitened directions have settled.

Editors use C in u = C^-1 k / |C^-1 k|. Two halves of the text give two estimates of u. Where their cosine is
c, each has a noise of 1/c - 1 relative to what they share, and the whole text half of that: the cosine of its
u with that of a text without end is then about sqrt(2 c / (1 + c)), by the Spearman-Brown formula.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from aftershock.editors.solvers import Factor, direction
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.moments import Sums, add_up
from aftershock.lm.statistics.probe_keys import probe_keys
from aftershock.progress import Progress

log = logging.getLogger(__name__)

LEAST = 10
"""Vectors per dimension before which nothing counts as settled (Li et al., 2025, FastMEMIT: 2 to 10 do)."""
SETTLED = 0.9
"""The expected cosine of u with that of a text without end, from which on the text is enough; Gaussian keys
reach it near 5 vectors per dimension. Edits no longer change with more: see docs/moments.md."""
GROWTH = 1.25
"""The factor by which the text grows from one check to the next."""


@dataclass
class Taken:
    """The documents that were read, and how far whitened directions had settled with them."""

    documents: list[str] = field(default_factory=list)
    tokens: int = 0
    cosines: dict[int, float] = field(default_factory=dict)  # by layer, at the last check

    @property
    def settled(self) -> bool:
        """True if every layer had settled."""
        return bool(self.cosines) and min(self.cosines.values()) >= SETTLED


def take_documents(
    lm: LanguageModel,
    lists: Iterable[Sequence[str]],
    layers: Sequence[int],
    tokens: int | None = None,
    most: int | None = None,
    progress: Progress | None = None,
) -> Taken:
    """Read documents, a list at a time, until they have `tokens` tokens or, with None, until u settles.

    u settles on `layers`; of a probe set of keys the median counts. At most `most` vectors per dimension of
    the widest layer are taken. ValueError when there is no layer, or no text.
    """
    if not layers:
        raise ValueError("no editor of this run needs second moments of this model, so no text is needed")
    width = max(lm.weight(lm.projection(layer)).shape[1] for layer in layers)
    limit = tokens or (math.inf if most is None else most * width)
    look = min(limit, LEAST * width)
    keys = probe_keys(lm, layers) if tokens is None else {}
    taken, halves, progress = Taken(), (Sums(), Sums()), progress or Progress()
    progress.begin("Taking text", tokens or LEAST * width, "token")
    for documents in lists:
        documents = [text for text in documents if text.strip()]
        lengths = [len(ids[: lm.context]) for ids in lm.encode(documents)]
        kept = _enough(lengths, limit - taken.tokens)
        documents, new = documents[:kept], sum(lengths[:kept])
        start = len(taken.documents)
        taken.documents += documents
        taken.tokens += new
        progress.step(new)
        if tokens is None:
            for half, sums in enumerate(halves):
                mine = [text for i, text in enumerate(documents, start) if i % 2 == half]
                _go_on(lm, mine, layers, sums)
        if tokens is None and taken.tokens >= look:
            taken.cosines = {layer: settled(*halves, layer, keys[layer]) for layer in layers}
            told = ", ".join(f"{cosine:.3f} at layer {layer}" for layer, cosine in taken.cosines.items())
            log.info("%d tokens: expected cosine of u with that of a text without end %s", taken.tokens, told)
            look = min(limit, GROWTH * taken.tokens)
        if taken.settled or taken.tokens >= limit:
            break
    if taken.tokens <= 1:
        raise ValueError(f"second moments need text of several tokens, but it has {taken.tokens}")
    return taken


def settled(one: Sums, other: Sums, layer: int, keys: torch.Tensor) -> float:
    """Return the cosine that u from two halves of a text together should have with u from a text without end.

    It is the median over `keys`, (n, d_in); -1 while a half has fewer tokens than C has dimensions.
    """
    if min(one.tokens, other.tokens) < keys.shape[1] or not (one.matrices and other.matrices):
        return -1.0
    first, second = (
        direction(Factor.of(sums.matrices[layer] / sums.tokens), keys.double()) for sums in (one, other)
    )
    between = (first * second).sum(dim=1).median()
    return float((2 * between / (1 + between)).sqrt()) if between > 0 else -1.0


def _enough(lengths: Sequence[int], wanted: float) -> int:
    """The number of documents that hold the wanted number of tokens, or all."""
    total = 0
    for count, length in enumerate(lengths, 1):
        total += length
        if total >= wanted:
            return count
    return len(lengths)


def _go_on(lm: LanguageModel, documents: Sequence[str], layers: Sequence[int], sums: Sums) -> None:
    """Add the keys of more documents to `sums`."""
    if documents:
        sums.place = 0  # in this list
        add_up(lm, documents, layers, sums=sums)
