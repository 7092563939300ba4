"""UltraEdit's running statistics of an edited matrix's inputs and of the gradients at its output.

One normaliser serves all matrices of one shape. It sees blocks of rows x = [h; g], a block for each
mini-batch and matrix, and for each block of b rows (Welford, 1962; Chan et al., 1979)

    d = mean(x) - mu;  mu += b d / (n + b);  M += b var(x) + n b d^2 / (n + b);  n += b

with the unbiased variance, so that M is a little larger than the sum of squares. The order of blocks does not
matter, and all those of an edit are taken in at once. StableEdit (`whitened`) takes the biased variance, and
keeps the full matrix Q of what M is the diagonal of, for g alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

EPS = torch.finfo(torch.float32).eps
SMALLEST = 1e-6  # eigenvalue of the gradients' covariance, as StableEdit has it


@dataclass(frozen=True)
class Rows:
    """Rows of several cases: a matrix's inputs, and the gradients at its output; float64."""

    h: Tensor  # (rows, d_in)
    g: Tensor  # (rows, d_out)
    cases: Tensor  # (rows,)
    blocks: Tensor  # the block of each row, numbered over all cases, (rows,)

    @property
    def x(self) -> Tensor:
        """Inputs and gradients joined along the width."""
        return torch.cat([self.h, self.g], dim=1)


@dataclass(frozen=True)
class Statistics:
    """Statistics of the rows that the normaliser of one shape has seen, case by case; zeros without any."""

    n: Tensor  # rows, (B,)
    mean: Tensor  # mu, (B, d_in + d_out)
    M: Tensor  # (B, d_in + d_out)
    Q: Tensor | None = None  # (B, d_out, d_out), where gradients are whitened

    @classmethod
    def read(
        cls,
        memory: Mapping[str, Tensor],
        shape: tuple[int, int],
        n_cases: int,
        full: bool,
        device: torch.device,
    ) -> "Statistics":
        """Read the statistics of a shape (d_in, d_out) from an editor's memory."""
        d_in, d_out = shape
        sizes: dict[str, tuple[int, ...]] = {"n": (), "mean": (d_in + d_out,), "M": (d_in + d_out,)}
        if full:
            sizes["Q"] = (d_out, d_out)
        found = {}
        for name, size in sizes.items():
            kept = memory.get(f"{d_in}x{d_out}.{name}")
            if kept is None:
                kept = torch.zeros(n_cases, *size, dtype=torch.float64)
            found[name] = kept.to(device, torch.float64)
        return cls(**found)

    def as_memory(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        """The statistics under the names that `read` expects."""
        parts = {"n": self.n, "mean": self.mean, "M": self.M, "Q": self.Q}
        return {f"{shape[0]}x{shape[1]}.{name}": part for name, part in parts.items() if part is not None}

    def where(self, kept: Tensor, other: "Statistics") -> "Statistics":
        """These statistics in the cases that are true in `kept` (B,), `other` elsewhere."""

        def choose(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(kept.view(-1, *[1] * (mine.ndim - 1)), mine, theirs)

        parts = {name: choose(getattr(self, name), getattr(other, name)) for name in ("n", "mean", "M")}
        Q = None if self.Q is None or other.Q is None else choose(self.Q, other.Q)
        return Statistics(**parts, Q=Q)

    def observe(self, rows: Rows, biased: bool = False, lone: float = 0.0) -> "Statistics":
        """The statistics updated with the blocks of `rows`.

        A block of a single row has no variance; it is counted with `lone`, zero or NaN, for its unbiased one.
        """
        x = rows.x
        size = torch.bincount(rows.blocks).to(x)  # (blocks,)
        kept = size > 0
        owner = torch.zeros_like(size, dtype=torch.long).index_put((rows.blocks,), rows.cases)[kept]
        means = x.new_zeros(len(size), x.shape[1]).index_add(0, rows.blocks, x)[kept] / size[kept, None]
        place = kept.cumsum(0) - 1
        apart, size = x - means[place[rows.blocks]], size[kept]
        factor = torch.ones_like(size) if biased else torch.where(size > 1, size / (size - 1), lone)

        n = self.n.index_add(0, owner, size)
        n_safe = n.clamp(min=1.0)[:, None]
        mean = (
            self.mean
            + torch.zeros_like(self.mean).index_add(0, rows.cases, x - self.mean[rows.cases]) / n_safe
        )
        moved = means - mean[owner]
        M = self.M + self.n[:, None] * (self.mean - mean).square()
        M = M.index_add(0, owner, size[:, None] * moved.square())
        weights = factor[place[rows.blocks]][:, None]
        M = M.index_add(0, rows.cases, weights * apart.square())
        Q = self.Q
        if Q is not None:
            d_out = Q.shape[1]
            Q = Q.clone()
            for case in rows.cases.unique().tolist():
                mine, own = rows.cases == case, owner == case
                within, between = apart[mine][:, -d_out:], moved[own][:, -d_out:]
                drift = (self.mean - mean)[case, -d_out:]
                Q[case] += within.T @ within + (between * size[own, None]).T @ between
                Q[case] += self.n[case] * drift[:, None] * drift
        return Statistics(n, mean, M, Q)

    def normalise(self, rows: Rows, whiten: bool = False) -> tuple[Tensor, Tensor]:
        """h^ and g^ of each row: (x - mu) / (sigma + eps) with sigma = sqrt(M / (n - 1 + eps)).

        A case of which one row has been seen has no sigma. Its row is divided by the root mean square of its
        own entries instead, h and g each by its own, which is the size that normalised rows have.
        """
        d_in, cases = rows.h.shape[1], rows.cases
        sigma = (self.M / (self.n - 1 + EPS)[:, None]).sqrt()
        h, g = ((rows.x - self.mean[cases]) / (sigma[cases] + EPS)).split([d_in, rows.g.shape[1]], dim=1)
        single = (self.n == 1)[cases][:, None] & self.M[cases].isfinite().all(dim=1, keepdim=True)
        h, g = (
            torch.where(single, raw / (raw.square().mean(dim=1, keepdim=True).sqrt() + EPS), normal)
            for raw, normal in ((rows.h, h), (rows.g, g))
        )
        if whiten and self.Q is not None:
            d_out = rows.g.shape[1]
            for case in (self.n > d_out + 1).nonzero()[:, 0].tolist():
                mine = cases == case
                g = g.index_put((mine,), self._whitened(case, rows.g[mine]))
        return h, g

    def _whitened(self, case: int, g: Tensor) -> Tensor:
        """(g - mu_g) Sigma^(-1/2) with Sigma = Q / (n - d_out - 1)."""
        assert self.Q is not None
        d_out = g.shape[1]
        covariance = self.Q[case] / (self.n[case] - d_out - 1)
        if not bool(covariance.isfinite().all()):
            return torch.full_like(g, torch.nan)
        values, vectors = torch.linalg.eigh(covariance)
        root = (vectors * values.clamp(min=SMALLEST).rsqrt()) @ vectors.T
        return (g - self.mean[case, -d_out:]) @ root
