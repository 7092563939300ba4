"""Kronecker factors of the loss's curvature at a matrix, and what a gradient has outside of them.

A = E[a a^T] of the matrix's inputs and B = E[g g^T] of the gradient at its outputs, of the summed negative
log-probability of a text's tokens, at the positions that predict one (K-FAC).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aftershock.lm.edits import EMPTY, State, per_token
from aftershock.lm.gradients import Texts, module_gradients
from aftershock.lm.hooks import BATCH_TOKENS, batches
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import Pair


@dataclass(frozen=True)
class Factors:
    """A (d_in, d_in) and B (d_out, d_out), float64, and the number of positions they are the means of."""

    A: Tensor
    B: Tensor
    count: float

    def merged(self, a: Tensor, g: Tensor) -> "Factors":
        """Return the means over those positions and further ones, inputs (m, d_in) and gradients (m, d_out).

        Rows of zeros are no positions.
        """
        count = self.count + float(a.ne(0).any(dim=1).sum())
        A, B = (self.count * mean + rows.T @ rows for mean, rows in ((self.A, a), (self.B, g)))
        return Factors(A / count, B / count, count)


@dataclass(frozen=True)
class Projection:
    """U_b [(U_b^T G U_a) o M] U_a^T for gradients G, with the curvatures of each case, or one for all."""

    Ua: Tensor  # (B or 1, d_in, d_in)
    Ub: Tensor  # (B or 1, d_out, d_out)
    M: Tensor  # (B or 1, d_out, d_in) bool

    @classmethod
    def of(cls, cases: Sequence[Factors], energy: float) -> "Projection":
        """Return what keeps away from the `energy` share of the curvature of each case."""
        Sa, Ua = torch.linalg.eigh(torch.stack([factors.A for factors in cases]))
        Sb, Ub = torch.linalg.eigh(torch.stack([factors.B for factors in cases]))
        curvature = Sb[:, :, None] * Sa[:, None]
        ordered = curvature.flatten(1).sort(dim=1, descending=True).values
        share = ordered.cumsum(dim=1) / ordered.sum(dim=1, keepdim=True)
        rank = (share < energy).sum(dim=1, keepdim=True).clamp(max=ordered.shape[1] - 1)
        return cls(Ua, Ub, curvature < ordered.gather(1, rank)[:, :, None])

    def __call__(self, gradient: Tensor, cases: Tensor) -> Tensor:
        """Return the part of each gradient (n, d_out, d_in) that is kept; row i is of case `cases[i]`."""
        Ua, Ub, M = (t if len(t) == 1 else t[cases] for t in (self.Ua, self.Ub, self.M))
        Ua, Ub = Ua.to(gradient), Ub.to(gradient)
        return Ub @ ((Ub.mT @ gradient @ Ua) * M) @ Ua.mT


def read_rows(
    lm: LanguageModel,
    pairs: Sequence[Pair],
    cases: Sequence[int],
    modules: Sequence[str],
    state: State = EMPTY,
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return for each module a, g and the row of `pairs` of each position, float64.

    Row i runs with case `cases[i]` of `state`; all rows together, so that these have to be few.
    """
    texts = Texts.of(lm, pairs, cases, losses=range(len(pairs)))
    _, gradients = module_gradients(lm, texts, modules, state, len(pairs))
    counts = texts.valid.sum(dim=1)
    rows = torch.arange(len(pairs), device=lm.device)[:, None].expand_as(texts.valid)[texts.valid]
    last, narrow = lm.n_layers - 1, per_token(state)
    found = {}
    for module, (x, g) in gradients.items():
        if not (narrow and lm.is_in_mlp(module, last)):  # else only these positions are computed
            x, g = (t.gather(1, texts.read[..., None].expand(-1, -1, t.shape[-1])) for t in (x, g))
        # losses are means over a text's tokens
        found[module] = x[texts.valid].double(), g[texts.valid].double() * counts[rows, None], rows
    return found


def measure(lm: LanguageModel, texts: Sequence[Sequence[int]], modules: Sequence[str]) -> dict[str, Factors]:
    """Return the factors of each module on texts of the unedited model, each token of which counts.

    The first token of a text is predicted by none; texts of one token are left out.
    """
    pairs = [Pair(tuple(text[:1]), tuple(text[1:])) for text in texts if len(text) > 1]
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for part in batches([len(pair.target) for pair in pairs], BATCH_TOKENS):
        some = [pairs[i] for i in part]
        for module, (a, g, _) in read_rows(lm, some, [0] * len(some), modules).items():
            A, B = sums.get(module, (0.0, 0.0))
            sums[module] = A + a.T @ a, B + g.T @ g
    count = sum(len(pair.target) for pair in pairs)
    return {module: Factors(A / count, B / count, count) for module, (A, B) in sums.items()}
