"""LyapLock: the whole change is solved for anew with each edit, from the unedited weights W_0 (2025).

With D = W - W_0 the preservation loss is D(W) = tr(D C D^T). An edit with keys K and residuals R has

    A = V (S + K K^T) + a Z lambda C,    Delta = [V (R K^T + T - W S) + a Z lambda (W_0 - W) C] A^-1

where S sums k k^T over the keys of earlier edits, and T sums v k^T over them and what they left there. The
first edit has lambda C + K K^T for A. Then, with D_b the preservation loss after it, a = 1 / sqrt(alpha D_b)
and Z = z_max = sqrt(alpha D_b), and after every edit, the first one too, Z <- max(Z + a (D(W) - alpha D_b) +
b, z_max), layer by layer. a Z starts at 1, and grows while more is lost than alpha times D_b. The release
can also start from a = 1 / (alpha D_b) and Z = z_max = alpha D_b, or from plain numbers (`queue_step_unit`).

Put together this says that W_0 + D + Delta is a least-squares solution of its own,

    D + Delta = [V' , R + D K] [K', K]^T (w C + [K', K] [K', K]^T)^-1,    w = a Z lambda / V

where K' are earlier keys and V' = v - W_0 k what D made of them. So a bias never counts, and nothing is
needed of text but C; the released code collects W_0 k k^T and W_0 k k^T W_0^T as well, and rounds all three
to float32, which moves a change by up to 3e-5 of its norm.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.changes import change_of, times
from aftershock.editors.contract import Memory
from aftershock.editors.lyaplock.written import Queue, Written
from aftershock.editors.moment_weighted import MomentWeightedEditor, described
from aftershock.editors.multi_layer import LayerChange
from aftershock.editors.solvers import Factor, adjust
from aftershock.lm.edits import Dense, LowRank, State
from aftershock.lm.edits.weights import WeightDelta


class LyapLock(MomentWeightedEditor):
    """LyapLock; a change is kept as factors as long as these are smaller than the matrix."""

    def change(self, layer: int, K: Tensor, R: Tensor, state: State, memory: Memory | None) -> LayerChange:
        """Return the change of the solution, which replaces what the layer has been changed by so far."""
        module, factor = self.lm.projection(layer), self.factor(layer)
        before, queue = change_of(module, state), Queue.read(memory, layer, len(K), self.lm.device)
        weight = self.mom2_weights[layer] * queue.weight(self.settings)  # (B,)
        known = Written.read(memory, layer, self.lm.device)
        new = R if before is None else R + times(before, K)
        latest = known.extended(K, new)
        assert latest.keys is not None
        assert latest.values is not None
        if known.S is None or known.T is None:
            U, V = adjust(factor, weight[:, None, None], latest.keys), latest.values
            change = self._replace(module, U, V, before)
        else:
            systems = known.S + weight[:, None, None] * factor.matrix + latest.keys.mT @ latest.keys
            right = known.T + latest.values.mT @ latest.keys
            name = f"the earlier keys of layer {layer} and what they are added to"
            solved = [Factor.of(A, name).solve(rows) for A, rows in zip(systems, right, strict=True)]
            whole = torch.stack(solved) - (0.0 if before is None else before.dense().double())
            change = Dense(module, whole.to(self.lm.dtype))
        return LayerChange(change, {**described(factor), "mom2_weight": weight, "queue": queue.length})

    def learn(
        self,
        memory: Memory | None,
        layers: Sequence[Mapping[str, Any]],
        reasons: Sequence[str | None],
        state: State,
    ) -> Memory | None:
        """Return the memory with the edit's keys, what the change makes of them, and the queue after it."""
        failed = torch.tensor([reason is not None for reason in reasons], device=self.lm.device)
        found: dict[str, Tensor] = {}
        for known in layers:
            layer, K = known["layer"], known["K"].masked_fill(failed[:, None, None], 0.0)
            change = change_of(self.lm.projection(layer), state)
            assert change is not None
            values = times(change, K).masked_fill(failed[:, None, None], 0.0)
            loss = preservation_loss(change, self.factor(layer).matrix)
            queue = Queue.read(memory, layer, len(K), self.lm.device)
            found |= Written.read(memory, layer, self.lm.device).add(K, values).entries(layer)
            found |= queue.after(loss, self.settings).where(~failed, queue).entries(layer)
        return found

    def _replace(self, module: str, U: Tensor, V: Tensor, before: WeightDelta | None) -> LowRank | Dense:
        """The change V^T U in place of the one `before`; a matrix where factors would be no smaller."""
        dtype = self.lm.dtype
        if before is None:
            return LowRank(module, U.to(dtype), V.to(dtype))
        factors = before.factors()
        if factors is not None and 2 * (U.shape[1] + factors[0].shape[1]) <= min(before.shape):
            U, V = torch.cat([U, factors[0].double()], dim=1), torch.cat([V, -factors[1].double()], dim=1)
            return LowRank(module, U.to(dtype), V.to(dtype))
        return Dense(module, (V.mT @ U - before.dense().double()).to(dtype))


def preservation_loss(change: WeightDelta, C: Tensor) -> Tensor:
    """Return tr(D C D^T) of each case's change D, (B,), in the precision of C."""
    if (factors := change.factors()) is None:
        matrix = change.dense().to(C)
        return ((matrix @ C) * matrix).sum(dim=(1, 2))
    U, V = (factor.to(C) for factor in factors)
    return ((U @ C @ U.mT) * (V @ V.mT)).sum(dim=(1, 2))
