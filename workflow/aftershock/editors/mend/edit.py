"""MEND: one step of fine-tuning, transformed by a trained hypernetwork (Mitchell et al., 2022).

The hypernetwork is trained by its own stage (`mend_training`) and belongs to one model. Cases are edited side
by side; a case's requests share one loss. An edit of an edited model takes its gradient there.

`variant: released` does what the wrapper did that published comparisons ran: its normaliser starts anew when
the file is loaded and continues to learn from every edit, so that the first edit replaces what training had
collected and each later one depends on those before it, controls included. Its cases come one by one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contract import Contexts, Editor, EditResult, Memory
from aftershock.editors.mend import MendSettings
from aftershock.lm.edits import EMPTY, LowRank, State, select
from aftershock.lm.gradients import Gradients, Texts, module_gradients
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import Hypernetwork, TooFewTokensError, matrices
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.requests import EditRequest

CPU_TOKENS = 4096  # tokens of a batch of gradients; larger batches are no faster on a CPU


class Mend(Editor):
    """MEND: low-rank deltas at the first and last matrices of some MLPs, a rank per token of a case."""

    def __init__(
        self,
        lm: LanguageModel,
        settings: MendSettings,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        super().__init__(lm, settings, artifacts, seed, contexts)
        hypernetwork: Hypernetwork | None = self.artifacts.get("hypernetwork")
        if hypernetwork is None:
            raise ValueError("mend needs a hypernetwork: train one for this model first (rule train_mend)")
        wanted, found = set(matrices(lm, settings.layers)), set(hypernetwork.shapes)
        if wanted != found:
            raise ValueError(
                f"the hypernetwork edits {', '.join(sorted(found))}, but the settings ask for "
                f"{', '.join(sorted(wanted))}; set the same layers as in its training"
            )
        self.net = hypernetwork

    @property
    def changed_modules(self) -> tuple[str, ...]:
        """The first and last matrices of the edited MLPs."""
        return tuple(self.net.shapes)

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one delta per matrix, of the rank of the largest case; `steps` count the gradients taken.

        The memory of an editor whose edits come in order is what the normalisers have seen, in one row.
        """
        if not self.in_order:
            return self._edit_all(cases, state)
        trained = self.net.statistics()
        self.net.restore(memory or {name: torch.zeros_like(seen) for name, seen in trained.items()})
        try:
            return replace(self._edit_all(cases, state), memory=self.net.statistics())
        finally:
            self.net.restore(trained)

    def _edit_all(self, cases: Sequence[Sequence[EditRequest]], state: State) -> EditResult:
        pairs = iter(encode_pairs(self.lm, [(r.text, r.target_new) for case in cases for r in case]))
        grouped = [[next(pairs) for _ in case] for case in cases]
        sizes = [len(case) * max(len(p.prompt) + len(p.target) for p in case) for case in grouped]

        def run(some: range) -> EditResult:
            return self._edit(grouped[some.start : some.stop], select(state, some))

        above = self.lm.n_layers - min(self.settings.layers)
        each = token_bytes(self.lm, above, max(sizes), backward=True)
        limit = 0 if self.in_order else batch_limit(self.lm, each, CPU_TOKENS)
        parts = [part for _, part in run_in_parts([s * each for s in sizes], limit, run, "mend")]
        delta = tuple(joined(same) for same in zip(*(part.delta for part in parts), strict=True))
        steps, losses, reasons, diagnostics = (
            sum((getattr(part, name) for part in parts), ())
            for name in ("steps", "losses", "reasons", "diagnostics")
        )
        return EditResult(delta, steps, losses, reasons, diagnostics=diagnostics)

    @torch.no_grad()
    def _edit(self, cases: Sequence[Sequence[Pair]], state: State) -> EditResult:
        n = len(cases)
        owners = [i for i, case in enumerate(cases) for _ in case]
        texts = Texts.of(self.lm, [pair for case in cases for pair in case], owners)
        losses, gradients = module_gradients(self.lm, texts, list(self.net.shapes), state, n)
        reasons = [
            None if math.isfinite(loss) else f"the loss of the edit was {loss}" for loss in losses.tolist()
        ]
        for case in broken_cases(gradients, texts.cases, n):
            reasons[case] = reasons[case] or "the gradient of the edit was not finite"
        lost = torch.tensor([reason is not None for reason in reasons], device=self.lm.device)
        gradients = {
            name: (
                x.masked_fill(lost[texts.cases, None, None], 0.0),
                delta.masked_fill(lost[texts.cases, None, None], 0.0),
            )
            for name, (x, delta) in gradients.items()
        }
        try:
            made: tuple[LowRank, ...] = self.net(
                gradients, texts.cases, n, observe=self.in_order, scale=self.settings.lr_scale
            )
        except TooFewTokensError as error:
            if not self.in_order:
                raise
            reasons = [reasons[0] or str(error)]
            made = self.net.nothing(n)
        made = tuple(LowRank(d.module, d.U.to(self.lm.dtype), d.V.to(self.lm.dtype)) for d in made)
        for case in range(n):
            if reasons[case] is None and not all(
                d.V[case].isfinite().all() and d.U[case].isfinite().all() for d in made
            ):
                reasons[case] = "the hypernetwork made an edit that is not finite"
        failed = torch.tensor([reason is not None for reason in reasons])
        diagnostics = ({"gradients": gradients, "state": made},)
        steps = tuple(int(reason is None) for reason in reasons)
        return EditResult(
            tuple(d.without(failed) for d in made),
            steps,
            tuple(losses.tolist()),
            tuple(reasons),
            diagnostics=diagnostics,
        )


def broken_cases(gradients: Gradients, cases: Tensor, n_cases: int) -> list[int]:
    """The cases with a non-finite input or gradient."""
    broken = torch.zeros(n_cases, dtype=torch.bool, device=cases.device)
    for pair in gradients.values():
        for tensor in pair:
            rows = ~tensor.isfinite().all(dim=2).all(dim=1)
            broken[cases[rows]] = True
    return broken.nonzero()[:, 0].tolist()


def joined(deltas: Sequence[LowRank]) -> LowRank:
    """Join deltas of one module along the case axis; missing ranks are zeros."""
    rank = max(delta.U.shape[1] for delta in deltas)

    def wide(factor: Tensor) -> Tensor:
        return torch.nn.functional.pad(factor, (0, 0, 0, rank - factor.shape[1]))

    U, V = (torch.cat([wide(getattr(delta, name)) for delta in deltas]) for name in "UV")
    return LowRank(deltas[0].module, U, V)
