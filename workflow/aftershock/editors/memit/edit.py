"""MEMIT: least squares of all requests in each layer, weighed by second moments (Meng et al., 2023)."""

from aftershock.editors.moment_weighted import MomentWeightedEditor


class Memit(MomentWeightedEditor):
    """MEMIT: X = (lambda C + K K^T)^-1 K per layer; with previous keys X = (lambda C + S + K K^T)^-1 K.

    S is the sum of k k^T over the keys of earlier edits (Fang et al., 2025, whose released function for it
    is never given S; the one in LyapLock's repository does).
    """
