"""Linear algebra shared by editors: a layer's second moments C, factorised once, and solutions with them.

C need not be of full rank. Neurons that never fired, inputs that depend on the token alone and a text of few
tokens leave directions on which C has no information. Two kinds are distinguished.

* Rounding C to float32 gives such a direction an eigenvalue of either sign, 1e-7 of the largest or less. In
  float64 C is then still regular, and the released code solves with it by LU, eigenvalues as they are. So do
  the functions here: truncation or a ridge would give another edit, since (weight C + K K^T)^-1 K of a key
  with any part in such a direction consists of little else.
* A neuron that is exactly zero in the whole text, or always equal to another one, leaves an eigenvalue of
  zero even in float64. The released code fails there. Here the solution is the limit of a ridge that
  vanishes: a key without a part in these directions is solved for in the others, and a key with one is
  written by it alone, because there a change costs nothing.

`rounding` measures how much of an answer is decided by the rounding of its keys.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aftershock.lm.statistics.moments import equilibrate, rank_of

KEY_ROUNDING = torch.finfo(torch.float32).eps
"""A part of a key that is smaller than this, relative to the key, is no part."""


@dataclass(frozen=True)
class Eigenvectors:
    """S Q diag(e) Q^T S of a matrix without a Cholesky factor."""

    live: Tensor  # (d,) bool, neurons with a non-zero row in C
    scale: Tensor  # (d_live,), the reciprocal of S
    values: Tensor  # (r,), e without zeros
    vectors: Tensor  # (d_live, r)
    empty: Tensor  # (d_live, m), eigenvectors of the eigenvalues that are zero in float64


@dataclass(frozen=True)
class Factor:
    """A symmetric matrix C, (d, d) float64, in a form to solve with.

    It has a Cholesky factor where it is positive definite. Elsewhere C = S Q diag(e) Q^T S, where S has the
    roots of its diagonal: so small neurons stay exact beside large ones. Directions without an eigenvalue are
    kept apart.
    """

    matrix: Tensor
    rank: int
    """d with a Cholesky factor, else the eigenvalues above those of rounding, see `moments.rank_of`."""
    condition: float
    """Largest by smallest size of an eigenvalue in e; with a Cholesky factor a lower bound of that."""
    lower: Tensor | None = None
    parts: Eigenvectors | None = None  # without `lower`

    @property
    def method(self) -> str:
        """The factorisation: "cholesky" or "eigenvectors"."""
        return "cholesky" if self.lower is not None else "eigenvectors"

    @classmethod
    def of(cls, matrix: Tensor, name: str = "the matrix") -> "Factor":
        """Factorise `matrix`; ValueError calls it `name` where it holds values that are not numbers."""
        matrix = matrix.double()
        if not bool(matrix.isfinite().all()):
            raise ValueError(f"{name} hold values that are not finite; delete their file and make it again")
        lower, failed = torch.linalg.cholesky_ex(matrix)
        # of each neuron's square, the share that those before it leave unexplained
        share = 0.0 if failed else float((lower.diagonal().square() / matrix.diagonal()).min())
        if share > len(matrix) * torch.finfo(matrix.dtype).eps:
            return cls(matrix, len(matrix), 1 / share, lower)
        scaled, scale, live = equilibrate(matrix)
        values, vectors = torch.linalg.eigh(scaled)
        size = values.abs()
        zero = size <= len(size) * torch.finfo(size.dtype).eps * (size.max() if len(size) else 0.0)
        kept = size[~zero]
        condition = float(kept.max() / kept.min()) if len(kept) else float("inf")
        parts = Eigenvectors(live, scale, values[~zero], vectors[:, ~zero], vectors[:, zero])
        return cls(matrix, rank_of(values), condition, parts=parts)

    def solve(self, rows: Tensor) -> Tensor:
        """C^-1 y of each row y, (n, d), refined once; nothing along directions without an eigenvalue."""
        if self.parts is None:  # as cholesky_solve does, which copies the factor first
            half = torch.linalg.solve_triangular(self.lower, rows.T, upper=False)
            return torch.linalg.solve_triangular(torch.adjoint(self.lower), half, upper=True).T
        found = _divide(self.parts, rows)
        return found + _divide(self.parts, rows - found @ self.matrix)

    def outside(self, rows: Tensor) -> Tensor:
        """The part of each row along directions without an eigenvalue, (n, m); zero if only rounding."""
        if self.parts is None:
            return rows[:, :0]
        silent = rows[:, ~self.parts.live]
        living = rows[:, self.parts.live] * self.parts.scale
        parts = torch.cat([silent, living @ self.parts.empty], dim=1)
        size = silent.square().sum(1, keepdim=True) + living.square().sum(1, keepdim=True)
        return parts * (parts.square().sum(1, keepdim=True) > KEY_ROUNDING**2 * size)

    def place(self, parts: Tensor) -> Tensor:
        """Parts along directions without an eigenvalue as rows of a solution, (n, m) -> (n, d)."""
        found = parts.new_zeros(len(parts), len(self.matrix))
        if self.parts is not None:
            silent = len(self.matrix) - len(self.parts.scale)
            found[:, ~self.parts.live] = parts[:, :silent]
            found[:, self.parts.live] = parts[:, silent:] @ self.parts.empty.T * self.parts.scale
        return found


def _divide(parts: Eigenvectors, rows: Tensor) -> Tensor:
    found = torch.zeros_like(rows)
    along = (rows[:, parts.live] * parts.scale) @ parts.vectors
    found[:, parts.live] = (along / parts.values) @ parts.vectors.T * parts.scale
    return found


@dataclass(frozen=True)
class Earlier:
    """Earlier keys of each case, (B, m, d), and the solutions C^-1 k of them; float64."""

    keys: Tensor
    solved: Tensor

    @classmethod
    def of(cls, factor: Factor, keys: Tensor | None) -> "Earlier | None":
        """Solve for `keys`, if there are any."""
        if keys is None:
            return None
        return cls(keys, factor.solve(keys.flatten(0, 1)).unflatten(0, keys.shape[:2]))


def adjust(factor: Factor, weight: float | Tensor, keys: Tensor, earlier: Earlier | None = None) -> Tensor:
    """((weight C + K K^T)^-1 K)^T for each case, (B, n, d); float64 (MEMIT, Meng et al., 2023).

    `weight` is a number, or one for each case, (B, 1, 1).
    `keys` are K^T, (B, n, d); rows of zeros stay zeros. With `earlier` keys of the case K K^T is a sum over
    those too. By Woodbury's identity the result is H^-1 D with the rows D = (weight C)^-1 K and H = 1 +
    K^T D: one factorisation of C serves all cases. Without a Cholesky factor the result is refined once, so
    that it is as exact as an LU of the whole matrix.

    Let N be the parts of keys along directions without an eigenvalue, and P the projection on the kernel of
    N N^T, the combinations of keys without such a part. The equations along these directions then read
    N^T S = N^T with S = K^T X, so that S = 1 - Z where Z = P Z. The other equations give Z = (P H P)^+, the
    part Z D of the solution, and for these directions (1 - Z H) (N N^T)^+ N. With N = 0 this is Woodbury's
    identity again.
    """
    solved, own = factor.solve(keys.flatten(0, 1)).unflatten(0, keys.shape[:2]), slice(None)
    if earlier is not None:
        own = slice(earlier.keys.shape[1], None)
        keys = torch.cat([earlier.keys, keys], dim=1)
        solved = torch.cat([earlier.solved, solved], dim=1)
    b, n, d = keys.shape
    solved = solved / weight
    inner = torch.eye(n, dtype=keys.dtype, device=keys.device) + solved @ keys.mT
    if factor.lower is not None:
        return torch.linalg.solve_ex(inner, solved)[0][:, own]
    found, free = _with_free_directions(factor, keys, solved, inner)
    missing = keys - weight * (found @ factor.matrix) - (found @ keys.mT) @ keys
    step = factor.solve(missing.reshape(-1, d)).reshape(b, n, d) / weight
    step = step - (step @ keys.mT) @ torch.linalg.solve_ex(inner, solved)[0]
    return torch.where(free[:, None, None], found, found + step)[:, own]


def _with_free_directions(
    factor: Factor, keys: Tensor, solved: Tensor, inner: Tensor
) -> tuple[Tensor, Tensor]:
    """H^-1 D as `adjust` has it with directions that have no eigenvalue, and which cases' keys have any."""
    b, n, d = keys.shape
    one = torch.eye(n, dtype=keys.dtype, device=keys.device)
    outside = factor.outside(keys.reshape(-1, d)).reshape(b, n, -1)
    values, turn = torch.linalg.eigh(outside @ outside.mT)
    kept = values > KEY_ROUNDING**2 * values.amax(dim=1, keepdim=True)  # combinations with a part outside
    kernel = (turn * ~kept[:, None]) @ turn.mT
    left = kernel @ torch.linalg.solve_ex(kernel @ inner @ kernel + one - kernel, kernel.expand(b, n, n))[0]
    inverse = (turn * torch.where(kept, 1 / values, 0.0)[:, None]) @ turn.mT
    beyond = (one - left @ inner) @ inverse @ outside
    found = left @ solved + factor.place(beyond.reshape(b * n, -1)).reshape(b, n, d)
    return found, kept.any(dim=1)


def interpolate(factor: Factor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """(C^-1 K (K^T C^-1 K)^-1)^T for each case, (B, n, d), and the rank of its keys, (B,); float64.

    The smallest change in the norm of C that writes every residual in full (EMMET with equality constraints,
    Gupta et al., 2024; ROME for n = 1): the limit of `adjust` for a weight that vanishes. `keys` are K^T, (B,
    n, d), whose rows of zeros stay zeros. Where the rank is below the number of other rows there is no such
    change, and the result means nothing.
    """
    b, n, d = keys.shape
    size = keys.norm(dim=2, keepdim=True)
    sizes = torch.linalg.svdvals(torch.where(size > 0, keys / size, 0.0))
    rank = (sizes > KEY_ROUNDING * max(n, d) ** 0.5 * sizes[:, :1]).sum(dim=1)
    solved = factor.solve(keys.reshape(-1, d)).reshape(b, n, d)
    inner = solved @ keys.mT + torch.diag_embed((size[..., 0] == 0).to(keys))
    if factor.lower is not None:
        return torch.linalg.solve_ex(inner, solved)[0], rank
    return _with_free_directions(factor, keys, solved, inner)[0], rank


def rounding(
    factor: Factor,
    weight: float,
    keys: Tensor,
    adjusted: Tensor,
    dtype: torch.dtype,
    earlier: Earlier | None = None,
) -> Tensor:
    """The relative change of `adjusted` when every key's entries are rounded to `dtype` otherwise, (B,).

    Measured by moving each entry up or down by one step of `dtype`. Near 1, the answer is that of the last
    bits of the keys, and another processor gives another one.
    """
    seed = torch.Generator().manual_seed(0)  # the same signs for every case, whatever stands beside it
    signs = (2 * torch.randint(2, keys.shape[-1:], generator=seed) - 1).to(keys)
    moved = adjust(factor, weight, keys * (1 + torch.finfo(dtype).eps * signs), earlier)
    size = adjusted.flatten(1).norm(dim=1)
    return (moved - adjusted).flatten(1).norm(dim=1) / size.clamp(min=torch.finfo(size.dtype).tiny)


def direction(factor: Factor, keys: Tensor) -> Tensor:
    """C^-1 k / |C^-1 k| of each key k, (N, d); float64 (ROME, Meng et al., 2022).

    A key with a part along directions without an eigenvalue has that part as its direction, the limit for an
    eigenvalue that vanishes. The released code inverts C in float32 instead, which differs by the rounding of
    that inverse.
    """
    outside = factor.outside(keys)
    beyond = outside.ne(0).any(dim=1, keepdim=True)
    found = torch.where(beyond, factor.place(outside), factor.solve(keys))
    return found / found.norm(dim=1, keepdim=True)


def adjust_by_ridge(ridge: float, keys: Tensor, previous: Tensor | None = None) -> Tensor:
    """((ridge 1 + K K^T)^-1 K)^T for each case, (B, n, d); float64 (AlphaEdit, Fang et al., 2025).

    With `previous` keys of the case, (B, m, d), K K^T is a sum over those too. There are as many equations as
    keys.
    """
    known = keys if previous is None else torch.cat([previous, keys], dim=1)
    system = known @ known.mT
    system.diagonal(dim1=1, dim2=2).add_(ridge)
    found = torch.cholesky_solve(known, torch.linalg.cholesky_ex(system)[0])
    return found[:, known.shape[1] - keys.shape[1] :]
