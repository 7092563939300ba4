"""Replacement of a module's outputs near stored inputs, as in GRACE's adaptors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import Module

from aftershock.lm.edits.delta import Batch, CaseTensors, Delta, PromptDecision, register
from aftershock.lm.model import LanguageModel

Tokens = Literal["last", "before", "prompt", "all"]
"""Tokens whose outputs are replaced: the prompt's last, those before it, both, or all later ones too."""
Distance = Literal["euclidean", "cosine"]
ROUNDING = 1e-5
"""Rounding of distances, relative to the norm of a key: the same text differs slightly between batches."""
NO_TOKEN = -1  # in labels of different lengths


@register
@dataclass(frozen=True)
class Codebook(CaseTensors):
    """Replaces a module's outputs by a key's value where its input at the prompt's end is within the radius.

    Of several keys the nearest one counts, of equally near ones the first; it may be too far. A delta of the
    same module and kind that follows stands for the whole codebook in the cases where it has entries.
    """

    module: str
    tokens: Tokens
    distance: Distance
    keys: Tensor  # (B, n, d_in)
    values: Tensor  # (B, n, d_out)
    outputs: Tensor  # (B, n, d_out), the module's outputs at the keys
    epsilons: Tensor  # (B, n), radii
    labels: Tensor  # (B, n, t), target tokens; NO_TOKEN behind shorter ones
    used: Tensor  # (B, n), false where a case has fewer entries

    def nearest(self, queries: Tensor, cases: Tensor) -> tuple[Tensor, Tensor]:
        """The distance to the nearest key of each query's case, (rows,), and the index of that key."""
        distance = queries.new_full((len(queries),), torch.inf)
        entry = torch.zeros_like(cases)
        for case in cases.unique().tolist():
            (mine,), (rows,) = (x.nonzero(as_tuple=True) for x in (self.used[case], cases == case))
            if len(mine):
                least = distances_to(self.keys[case, mine], queries[rows], self.distance).min(dim=1)
                distance[rows], entry[rows] = least.values, mine[least.indices]
        return distance, entry

    def route(self, queries: Tensor, cases: Tensor) -> Tensor:
        """The entry that replaces outputs for each query, (rows,); -1 for none."""
        distance, entry = self.nearest(queries, cases)
        fires = within(distance, self.epsilons[cases, entry], self.keys[cases, entry], self.distance)
        return torch.where(fires, entry, -1)

    @contextmanager
    def attach(self, lm: LanguageModel, batch: Batch) -> Iterator[None]:
        """Context manager: the module's outputs are replaced in the rows that are near a key."""
        module = lm.model.get_submodule(self.module)
        device = cast(Tensor, module.weight).device
        book, cases = self.to(device), batch.cases.to(device)
        decision = PromptDecision(batch, lambda queries: book.route(queries, cases))
        columns = Columns(batch, self.tokens)

        def hook(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            entry = decision(args[0])
            where = columns.of_pass(output.shape[1]).to(device) & (entry >= 0)[:, None]
            if not where.any():
                return output
            values = book.values[cases, entry.clamp(min=0)].to(output.dtype)
            return torch.where(where[..., None], values[:, None], output)

        handle = module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def follow(self, earlier: Delta) -> "Codebook | None":
        """This codebook, in cases without entries the `earlier` one; None if that is of another module."""
        if not isinstance(earlier, Codebook) or earlier.settings() != self.settings():
            return None
        holds = self.used.any(dim=1)
        if holds.all():
            return self
        one, other = self.padded(*earlier.size), earlier.padded(*self.size)
        chosen = {
            name: torch.where(holds.view(-1, *[1] * (tensor.ndim - 1)), tensor, other.tensors()[name])
            for name, tensor in one.tensors().items()
        }
        return replace(one, **cast(Any, chosen))

    @property
    def size(self) -> tuple[int, int]:
        """The largest numbers of entries and of label tokens."""
        return self.labels.shape[1], self.labels.shape[2]

    def padded(self, entries: int, tokens: int) -> "Codebook":
        """The codebook padded to at least `entries` entries and `tokens` label tokens."""
        more, longer = (
            max(0, wanted - own) for wanted, own in zip((entries, tokens), self.size, strict=True)
        )

        def wide(name: str, tensor: Tensor) -> Tensor:
            if name == "labels":
                return torch.nn.functional.pad(tensor, (0, longer, 0, more), value=NO_TOKEN)
            pad = (0, more) if tensor.ndim == 2 else (0, 0, 0, more)
            return torch.nn.functional.pad(tensor, pad)

        return replace(self, **cast(Any, {name: wide(name, t) for name, t in self.tensors().items()}))

    def without(self, cases: Tensor) -> "Codebook":
        """The codebook without entries in the cases that are true in `cases` (B,)."""
        return replace(self, used=self.used & ~cases.to(self.used.device)[:, None])

    def to(self, device: torch.device | torch.dtype) -> "Codebook":
        """The codebook on another device, or with its numbers in another precision."""
        if isinstance(device, torch.dtype):
            return self._map(lambda tensor: tensor.to(device) if tensor.is_floating_point() else tensor)
        return self._map(lambda tensor: tensor.to(device))

    def squared_norm(self) -> Tensor:
        """Squared norm of what replacing changes at the keys, summed over a case's entries, (B,), float64."""
        change = (self.values.double() - self.outputs.double()).square().sum(dim=2)
        return change.masked_fill(~self.used, 0.0).sum(dim=1)

    def random_like(self, generators: Sequence[torch.Generator]) -> "Codebook":
        """A codebook with these keys and radii, and random values as far from the outputs."""
        change = self.values - self.outputs
        noise = change.clone()
        for case, generator in enumerate(generators):
            for entry in self.used[case].nonzero()[:, 0].tolist():
                drawn = torch.randn(change.shape[2], generator=generator).to(change)
                noise[case, entry] = drawn * (change[case, entry].norm() / drawn.norm())
        return replace(self, values=self.outputs + noise)


class Columns:
    """The columns of each pass whose outputs are replaced.

    The first pass runs the prompts. What comes later without gradients goes on behind them; with gradients a
    layer is run again for the backward pass.
    """

    def __init__(self, batch: Batch, tokens: Tokens) -> None:
        self.batch, self.tokens, self._first = batch, tokens, True

    def of_pass(self, n_columns: int) -> Tensor:
        """True where outputs are replaced, (rows, columns)."""
        first, self._first = self._first or torch.is_grad_enabled(), False
        ends = self.batch.prompt_ends[:, None]
        if self.tokens == "all" or not first:
            return torch.full((len(ends), n_columns), self.tokens == "all", device=ends.device)
        places = self.batch.positions
        if places is None:
            places = torch.arange(n_columns, device=ends.device).expand(len(ends), -1)
        rules: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "last": torch.eq,
            "before": torch.lt,
            "prompt": torch.le,
        }
        return rules[self.tokens](places, ends)


def distances_to(keys: Tensor, queries: Tensor, distance: Distance) -> Tensor:
    """Distances of queries (rows, d) to keys (n, d), (rows, n); those within rounding are 0."""
    if distance == "cosine":
        found = 1 - torch.nn.functional.cosine_similarity(queries[:, None], keys, dim=2)
    else:
        found = torch.stack([(queries - key).norm(dim=1) for key in keys], dim=1)
    return found.masked_fill(found <= slack(keys, distance), 0.0)


def slack(keys: Tensor, distance: Distance) -> Tensor:
    """The most that rounding may add to a distance from each of `keys` (n, d), (n,)."""
    return ROUNDING * (torch.ones_like(keys[:, 0]) if distance == "cosine" else keys.norm(dim=1))


def within(distance: Tensor, epsilon: Tensor, keys: Tensor, kind: Distance) -> Tensor:
    """True where a distance is at most the radius of the key that it is from; a negative radius holds none.

    A radius that reaches exactly as far as some text does so in any batch.
    """
    return distance <= torch.where(epsilon > 0, epsilon + slack(keys, kind), epsilon)
