"""Updates of GRACE's codebook by an edit: a new key, a wider radius, or a split of two radii."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aftershock.editors.grace import GraceSettings
from aftershock.lm.edits.codebook import NO_TOKEN, Codebook, Distance, Tokens, distances_to, within

IGNORED = -100  # in place of a prompt's token in a label, as losses have it
HALF_LESS = 1e-5  # subtracted from the older one of two halves in the released code


@dataclass(frozen=True)
class Entry:
    """A key with its value; `output` is the module's output there."""

    key: Tensor  # (d_in,)
    value: Tensor  # (d_out,)
    output: Tensor  # (d_out,)
    epsilon: float
    label: tuple[int, ...]
    """IGNORED for each token of the prompt, then the object's tokens."""


def entries_of(book: Codebook, case: int) -> list[Entry]:
    """The entries of one case, in their order."""
    return [
        Entry(
            book.keys[case, i],
            book.values[case, i],
            book.outputs[case, i],
            book.epsilons[case, i].item(),
            tuple(token for token in book.labels[case, i].tolist() if token != NO_TOKEN),
        )
        for i in book.used[case].nonzero()[:, 0].tolist()
    ]


def codebook_of(
    cases: Sequence[Sequence[Entry]],
    module: str,
    tokens: Tokens,
    distance: Distance,
    d_in: int,
    d_out: int,
    like: Tensor,
) -> Codebook:
    """The codebook with the entries of each case, in the dtype and on the device of `like`."""
    n = max(1, *map(len, cases)) if cases else 1
    width = max((len(entry.label) for case in cases for entry in case), default=0)
    keys, values, outputs = (like.new_zeros(len(cases), n, d) for d in (d_in, d_out, d_out))
    epsilons = like.new_zeros(len(cases), n)
    used = torch.zeros(len(cases), n, dtype=torch.bool, device=like.device)
    labels = torch.full((len(cases), n, width), NO_TOKEN, device=like.device)
    for i, case in enumerate(cases):
        for j, entry in enumerate(case):
            keys[i, j], values[i, j], outputs[i, j] = entry.key, entry.value, entry.output
            epsilons[i, j], used[i, j] = entry.epsilon, True
            labels[i, j, : len(entry.label)] = torch.tensor(entry.label)
    return Codebook(module, tokens, distance, keys, values, outputs, epsilons, labels, used)


def take_up(
    entries: list[Entry],
    key: Tensor,
    output: Tensor,
    label: tuple[int, ...],
    start: Callable[[], Tensor],
    settings: GraceSettings,
) -> int | None:
    """Update `entries` for an edit at `key`; return the index to train, or None where none is active there.

    `start` makes the value that a new entry begins with. ValueError when the codebook would grow too large.
    """
    new = Entry(key, output, output, settings.eps, label)
    if not entries:
        _add(entries, replace(new, value=start()), settings)
        return 0
    near, distance = _nearest(entries, key, settings.distance)
    old = entries[near]
    released = settings.variant == "released"
    if distance > settings.eps + old.epsilon:
        _add(entries, replace(new, value=start()), settings)
    elif not _same_object(entries, near, label, released):
        if distance == 0 and not released:  # no distance to split: the newest object replaces the entry
            entries[near] = replace(new, value=start(), epsilon=old.epsilon)
        else:
            _add(entries, replace(new, value=start(), epsilon=distance / 2), settings)
            entries[near] = replace(old, epsilon=distance / 2 - HALF_LESS * released)
    elif distance > old.epsilon:
        moved = (old.key + key) / 2 if settings.expand == "moving_average" else old.key
        entries[near] = replace(old, key=moved, epsilon=distance)
    near, distance = _nearest(entries, key, settings.distance)
    chosen = entries[near]
    reach = torch.tensor([distance, chosen.epsilon], dtype=key.dtype, device=key.device)
    fires = within(reach[:1], reach[1:], chosen.key[None], settings.distance)
    return near if bool(fires) else None


def _add(entries: list[Entry], new: Entry, settings: GraceSettings) -> None:
    if len(entries) >= settings.max_entries:
        raise ValueError(
            f"grace: the codebook has {len(entries)} entries already, as many as max_entries allows; raise "
            "it, or edit fewer facts of one model"
        )
    entries.append(new)


def _nearest(entries: Sequence[Entry], key: Tensor, distance: Distance) -> tuple[int, float]:
    """The nearest entry, the first of equals, and its distance."""
    found = distances_to(torch.stack([entry.key for entry in entries]), key[None], distance)[0]
    near = int(found.argmin())
    return near, found[near].item()


def _same_object(entries: Sequence[Entry], near: int, label: tuple[int, ...], released: bool) -> bool:
    """True if an edit has the object of the nearest entry.

    The released code compares the means of the labels, ignored tokens included. It puts new labels before the
    earlier ones, but new keys behind them, so that it looks at another key's label.
    """
    if not released:
        return _object(label) == _object(entries[near].label)
    mean, other = (
        torch.tensor(ids, dtype=torch.float32).mean()
        for ids in (label, entries[len(entries) - 1 - near].label)
    )
    return bool(mean == other)


def _object(label: Sequence[int]) -> tuple[int, ...]:
    return tuple(token for token in label if token != IGNORED)
